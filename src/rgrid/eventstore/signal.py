"""The wake-up after a commit: an in-process event, fed by NOTIFY for commits of other processes."""

import asyncio


class Signal:
    """Carries the highest position known to be committed. Waiters wake when it grows or when told to look."""

    def __init__(self) -> None:
        self.position = 0
        self._changed = asyncio.Condition()
        self.looks = 0

    async def advance(self, position: int) -> None:
        """A commit of this process reached `position`."""
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
