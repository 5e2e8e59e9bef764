"""Pages of rows: filters, one sort column with the id as tie-break, by offset or after a known row, exact totals."""

from collections.abc import Sequence
from typing import Any, Final

import asyncpg
import msgspec

Queryable = asyncpg.Connection | asyncpg.Pool
LIMIT_MAX: Final = 1_000


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows of a list: `after` is the (sort value, id) of the last row already seen, instead of an offset."""

    sort: str
    descending: bool = True
    limit: int = 20
    offset: int = 0
    after: tuple[Any, str] | None = None


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """`total` counts all matches; `last` is where the next page begins, None at the end."""

    rows: list[Any]
    total: int
    last: tuple[Any, str] | None


class Where:
    """Conditions joined by AND. Each `{}` in a condition becomes the number of its parameter."""

    def __init__(self) -> None:
        self._conditions: list[str] = []
        self.args: list[Any] = []

    def add(self, condition: str, *args: object) -> None:
        self._conditions.append(condition.format(*(f"${len(self.args) + n + 1}" for n in range(len(args)))))
        self.args.extend(args)

    def equal(self, column: str, value: object | None) -> None:
        """`column = value`, unless the value is None."""
        if value is not None:
            self.add(f"{column} = {{}}", value)

    @property
    def sql(self) -> str:
        return " where " + " and ".join(self._conditions) if self._conditions else ""

    def copy(self) -> "Where":
        twin = Where()
        twin._conditions, twin.args = list(self._conditions), list(self.args)
        return twin


async def select(
    connection: Queryable,
    *,
    columns: str,
    source: str,
    where: Where,
    window: Window,
    key: str,
    never_null: Sequence[str] = ("created_at",),
) -> Rows:
    """One page and the total. `columns`, `source` and `key` are SQL of the caller's own; `window.sort` must be a
    column that the caller checked. Nulls sort last in both directions."""
    assert window.limit <= LIMIT_MAX
    total: int = await connection.fetchval(f"select count(*) from {source}{where.sql}", *where.args)  # noqa: S608
    page = where.copy()
    solid = window.sort in never_null
    if window.after is not None:
        _seek(page, window, key, solid=solid)
    direction = "desc" if window.descending else "asc"
    nulls = "" if solid else " nulls last"
    rows = await connection.fetch(
        f"select {columns} from {source}{page.sql}"  # noqa: S608
        f" order by {window.sort} {direction}{nulls}, {key} {direction}"
        f" limit {window.limit + 1} offset {window.offset}",
        *page.args,
    )
    more = len(rows) > window.limit
    shown = rows[: window.limit]
    last = (shown[-1][window.sort], shown[-1][key]) if more and shown else None
    return Rows(rows=list(shown), total=total, last=last)


def _seek(page: Where, window: Window, key: str, *, solid: bool) -> None:
    assert window.after is not None
    value, last_key = window.after
    beyond = "<" if window.descending else ">"
    if solid:
        page.add(f"({window.sort}, {key}) {beyond} ({{}}, {{}})", value, last_key)
    elif value is None:
        page.add(f"{window.sort} is null and {key} {beyond} {{}}", last_key)
    else:
        page.add(f"(({window.sort}, {key}) {beyond} ({{}}, {{}}) or {window.sort} is null)", value, last_key)
