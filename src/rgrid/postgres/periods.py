"""Cuts a period into pieces that are counted already, whole days and hours, and rests that have to be counted."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

DAY_HOURS: Final = 24
HOUR_HOURS: Final = 1


class Piece(msgspec.Struct, frozen=True):
    """`begin` is inclusive, `end` exclusive, None is open. `hours` names the buckets it consists of, 0 the rows
    themselves. `sign` -1: to be taken off, because the bucket was counted whole."""

    hours: int
    begin: datetime | None
    end: datetime | None
    sign: int = 1


def cut(begin: datetime | None, end: datetime | None, buckets: Sequence[int]) -> list[Piece]:
    """`buckets` are their sizes in hours, the largest first. Each side is cut at the nearest boundary, so that never
    more than half of the smallest bucket is left to be counted on either side."""
    if begin is not None and end is not None and begin >= end:
        return []
    if not buckets:
        return [Piece(0, begin, end)]
    first = None if begin is None else _nearest(begin, buckets[0])
    last = None if end is None else _nearest(end, buckets[0])
    pieces = [] if first is not None and first == last else [Piece(buckets[0], first, last)]
    if begin is not None and first is not None:
        pieces += _signed(begin, first, buckets[1:])
    if end is not None and last is not None:
        pieces += _signed(last, end, buckets[1:])
    return pieces


def _signed(begin: datetime, end: datetime, buckets: Sequence[int]) -> list[Piece]:
    if begin <= end:
        return cut(begin, end, buckets)
    return [msgspec.structs.replace(piece, sign=-piece.sign) for piece in cut(end, begin, buckets)]


def _nearest(moment: datetime, hours: int) -> datetime:
    """The boundary at or before, when there is none after: time ends in the year 9999."""
    size = timedelta(hours=hours)
    utc = moment.astimezone(UTC)
    before = utc - (utc - datetime(1, 1, 1, tzinfo=UTC)) % size
    if utc - before <= size / 2 or before > datetime.max.replace(tzinfo=UTC) - size:
        return before
    return before + size
