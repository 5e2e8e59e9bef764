"""One entry of the input cache: a set of verified inputs that may be referred to for a while. Stream
`input_cache-{hash}`, where the hash covers names and contents, so an entry never changes its files.

While an entry lives it holds its objects, as an execution holds its own: it never lives longer than they do.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from rgrid.executions.commands import CacheInputs, ExpireCachedInputs, InputCacheCommand
from rgrid.executions.events import CachedInputsExpired, InputCacheEvent, InputsCached
from rgrid.kernel.decider import Decider


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What the cache holds under this hash: nothing when `expires_at` is None."""

    held: tuple[str, ...] = ()
    expires_at: datetime | None = None


INITIAL: Final = Entry()


def decide(command: InputCacheCommand, state: Entry, now: datetime) -> Sequence[InputCacheEvent]:
    """Storing what is there already changes nothing; an entry whose time is over makes way for a new one."""
    is_over = state.expires_at is not None and state.expires_at <= now
    ended = [CachedInputsExpired(released=list(state.held), expired_at=now)] if is_over else []
    match command:
        case CacheInputs(files=files, keep_days=keep_days):
            if state.expires_at is not None and not is_over:
                return []
            stored = InputsCached(files=files, cached_at=now, expires_at=now + timedelta(days=keep_days))
            return [*ended, stored]
        case ExpireCachedInputs():
            return ended


def evolve(state: Entry, event: InputCacheEvent) -> Entry:
    """The state after a recorded event."""
    match event:
        case InputsCached(files=files, expires_at=expires_at):
            return Entry(held=tuple(file.sha256 for file in files), expires_at=expires_at)
        case CachedInputsExpired():
            return INITIAL


DECIDER: Final = Decider[InputCacheCommand, Entry, InputCacheEvent](
    noun="input_cache", initial=INITIAL, decide=decide, evolve=evolve
)
