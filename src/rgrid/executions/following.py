"""Wakes whoever follows an execution's log: at once for lines of this process; others are found by looking again."""

import asyncio
from collections.abc import Iterable
from typing import Final

LOOK_AGAIN_S: Final = 0.5


class LinesStored:
    """Followers by execution. `tell` after a commit; a follower that wasn't told looks again after LOOK_AGAIN_S,
    which finds lines and ends that other processes stored."""

    def __init__(self) -> None:
        self._followers: dict[str, set[asyncio.Event]] = {}

    def tell(self, execution_ids: Iterable[str]) -> None:
        for execution_id in execution_ids:
            for follower in self._followers.get(execution_id, ()):
                follower.set()

    def follow(self, execution_id: str) -> "Follower":
        return Follower(self._followers, execution_id)


class Follower:
    """A context manager; `news` returns when there may be something new."""

    def __init__(self, followers: dict[str, set[asyncio.Event]], execution_id: str) -> None:
        self._followers = followers
        self._execution_id = execution_id
        self._told = asyncio.Event()

    def __enter__(self) -> "Follower":
        self._followers.setdefault(self._execution_id, set()).add(self._told)
        return self

    def __exit__(self, *_: object) -> None:
        mine = self._followers.get(self._execution_id, set())
        mine.discard(self._told)
        if not mine:
            self._followers.pop(self._execution_id, None)

    async def news(self) -> None:
        try:
            async with asyncio.timeout(LOOK_AGAIN_S):
                await self._told.wait()
        except TimeoutError:
            return
        self._told.clear()
