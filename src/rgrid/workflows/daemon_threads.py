"""Threads for handlers that are plain functions. Nobody waits for them when the process ends: an executor's threads
would hold it up for as long as they run."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any


class DaemonThreads:
    """As many at once as there are places. A call that is cancelled is not waited for, but its thread keeps its place
    until it ends."""

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)

    async def run(self, function: Callable[[], Any]) -> Any:
        """What the function returns or raises."""
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()

        def settle(error: BaseException | None, answer: Any) -> None:
            self._places.release()
            if done.done():
                return
            if error is None:
                done.set_result(answer)
            else:
                done.set_exception(error)

        def tell(error: BaseException | None, answer: Any) -> None:
            try:
                loop.call_soon_threadsafe(settle, error, answer)
            except RuntimeError:
                return  # the event loop is closed: nobody is left to tell

        def work() -> None:
            try:
                answer = function()
            except BaseException as error:  # noqa: BLE001 -- the code is the user's: whatever it raises is passed on
                # A future takes neither the end of an iteration nor the end of a program.
                tell(error if _is_plain(error) else RuntimeError(f"{type(error).__name__}: {error}"), None)
            else:
                tell(None, answer)

        threading.Thread(target=work, name="rgrid-handler", daemon=True).start()
        return await done


def _is_plain(error: BaseException) -> bool:
    return isinstance(error, Exception) and not isinstance(error, StopIteration)
