"""How many bytes all kept files may take together: one limit for the installation."""

from collections.abc import Awaitable, Callable
from typing import Final

from rgrid.kernel.clock import monotonic_ms
from rgrid.kernel.errors import TooLarge

LOOK_AGAIN_MS: Final = 5_000


class Quota:
    """Looks at most every few seconds at what is held, and counts what this process has let in since."""

    def __init__(self, bytes_max: int, held_bytes: Callable[[], Awaitable[int]]) -> None:
        self._bytes_max = bytes_max
        self._held_bytes = held_bytes
        self._looked_ms: int | None = None
        self._held = 0

    async def room(self) -> int:
        """How many bytes may still come."""
        now_ms = monotonic_ms()
        if self._looked_ms is None or now_ms - self._looked_ms >= LOOK_AGAIN_MS:
            self._held = await self._held_bytes()
            self._looked_ms = now_ms
        return max(0, self._bytes_max - self._held)

    async def check(self, size_bytes: int) -> None:
        """Raises TooLarge `storage_quota_exceeded` when so many bytes more would be too many."""
        room = await self.room()
        if size_bytes > room:
            raise TooLarge(
                f"The files of this installation may take {self._bytes_max} bytes together; {room} are left, and"
                f" {size_bytes} are needed.",
                code="storage_quota_exceeded",
                extra={"quota_bytes": self._bytes_max, "left_bytes": room, "needed_bytes": size_bytes},
            )

    def took(self, size_bytes: int) -> None:
        """So many bytes came in."""
        self._held += size_bytes
