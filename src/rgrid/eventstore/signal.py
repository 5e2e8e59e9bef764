"""The wake-up after a commit: an in-process event, fed by NOTIFY for commits of other processes."""

import asyncio
from collections.abc import Callable, Sequence

from rgrid.kernel.messages import AnyRecorded

Listener = Callable[[Sequence[AnyRecorded]], None]


class Signal:
    """Carries the highest position known to be committed. Waiters wake when it grows or when told to look."""

    def __init__(self) -> None:
        self.position = 0
        self._changed = asyncio.Condition()
        self.looks = 0
        self.listeners: list[Listener] = []
        """Get what this process commits, in order of position, so that nobody here has to read it back."""

    async def advance(self, position: int, recorded: Sequence[AnyRecorded] = ()) -> None:
        """A commit reached `position`; `recorded` are its events when it was one of this process."""
        for listener in self.listeners if recorded else ():
            listener(recorded)
        async with self._changed:
            self.position = max(self.position, position)
            self._changed.notify_all()

    async def look(self) -> None:
        """Another process committed something: whoever waits should read the log."""
        async with self._changed:
            self.looks += 1
            self._changed.notify_all()

    async def wait_beyond(self, position: int, timeout_s: float, looks: int | None = None) -> bool:
        """Returns at a commit beyond `position`, at a look, or after the time; says whether it was woken. With the
        `looks` that were counted before the log was read, no look in between is missed."""
        looks = self.looks if looks is None else looks
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self.position > position or self.looks != looks)
                return True
        except TimeoutError:
            return False
