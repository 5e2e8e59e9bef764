"""Pages of rows: filters, an order that ends in a unique key, by offset or after a known row, exact totals."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec

from rgrid.kernel.errors import Invalid
from rgrid.postgres.pool import Connection, Pool

Queryable: TypeAlias = "Connection | Pool"
Value = str | int | float | bool | None
LIMIT_MAX: Final = 1_000


class Key(msgspec.Struct, frozen=True):
    """A column that a list may be ordered by: its name, how its value travels in a cursor, whether it can be null."""

    name: str
    kind: Literal["text", "number", "moment"] = "text"
    nullable: bool = False


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows of a list. `keys` are what it is ordered by, the last one unique; `after` holds their values in the
    last row already seen, instead of an offset."""

    keys: tuple[Key, ...]
    descending: bool = True
    limit: int = 20
    offset: int = 0
    after: tuple[Value, ...] | None = None


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Up to `limit + 1` rows (the one too many says that there are more) and the count of all matches."""

    rows: Sequence[Mapping[str, Any]]
    total: int


class Where:
    """Conditions joined by AND. Each `{}` in a condition becomes the number of its parameter, counted on from those
    that the query has already."""

    def __init__(self, args: Sequence[Any] = ()) -> None:
        self._conditions: list[str] = []
        self.args: list[Any] = list(args)

    def add(self, condition: str, *args: object) -> None:
        self._conditions.append(condition.format(*(f"${len(self.args) + n + 1}" for n in range(len(args)))))
        self.args.extend(args)

    def equal(self, column: str, value: object | None) -> None:
        """`column = value`, unless the value is None."""
        if value is not None:
            self.add(f"{column} = {{}}", value)

    def also(self, condition: str, *args: object) -> "Where":
        """A copy with one condition more."""
        copy = Where(self.args)
        copy._conditions = list(self._conditions)
        copy.add(condition, *args)
        return copy

    @property
    def sql(self) -> str:
        return " where " + " and ".join(self._conditions) if self._conditions else ""


async def select(
    connection: Queryable, *, columns: str, source: str, where: Where, window: Window, total: int | None = None
) -> Rows:
    """One page and the total, which is counted unless the caller knows it. `columns` and `source` are SQL of the
    caller's own. Nulls sort last in both directions. Raises Invalid (`invalid_cursor`) when `after` doesn't fit the
    keys."""
    assert window.limit <= LIMIT_MAX
    assert not any(key.nullable for key in window.keys[1:]), "only what a list is ordered by first can be null"
    after = None if window.after is None else _bounds(window, window.after)
    if total is None:
        total = await connection.fetchval(f"select count(*) from {source}{where.sql}", *where.args)  # noqa: S608
    assert total is not None
    if total <= window.offset:
        return Rows(rows=[], total=total)
    wanted = window.limit + 1
    if not window.keys[0].nullable:
        query = _Ordered(connection, columns, source, where, window)
        return Rows(rows=await query.rows(after, window.offset, wanted), total=total)
    # Two reads, each in the order of one index: an index that holds nulls last in one direction has them first in
    # the other.
    name, offset = window.keys[0].name, window.offset
    rows: list[dict[str, Any]] = []
    if after is None or after[0] is not None:
        known = _Ordered(connection, columns, source, where.also(f"{name} is not null"), window)
        rows = await known.rows(after, offset, wanted)
        after = None
        if not rows and offset:
            offset -= await known.count()
    if len(rows) < wanted:
        nulls = _Ordered(connection, columns, source, where.also(f"{name} is null"), window)
        rows += await nulls.rows(after, 0 if rows else offset, wanted - len(rows))
    return Rows(rows=rows, total=total)


class _Ordered:
    """Rows in the order of the keys, of which the first is null in all rows or in none."""

    def __init__(self, connection: Queryable, columns: str, source: str, where: Where, window: Window) -> None:
        self._connection = connection
        self._columns = columns
        self._source = source
        self._where = where
        self._window = window

    async def count(self) -> int:
        where = self._where
        count: int = await self._connection.fetchval(
            f"select count(*) from {self._source}{where.sql}",  # noqa: S608
            *where.args,
        )
        return count

    async def rows(self, after: Sequence[Any] | None, offset: int, limit: int) -> list[dict[str, Any]]:
        where, keys, descending = self._where, self._window.keys, self._window.descending
        if after is not None:
            # A row comparison, since that is what an index serves at once.
            seen = [(key, value) for key, value in zip(keys, after, strict=True) if value is not None]
            names, marks = ", ".join(key.name for key, _ in seen), ", ".join("{}" for _ in seen)
            where = where.also(f"({names}) {'<' if descending else '>'} ({marks})", *(value for _, value in seen))
        order = ", ".join(f"{key.name} {'desc' if descending else 'asc'}" for key in keys)
        rows = await self._connection.fetch(
            f"select {self._columns} from {self._source}{where.sql} order by {order}"  # noqa: S608
            f" limit {limit} offset {offset}",
            *where.args,
        )
        return [dict(row) for row in rows]


def _bounds(window: Window, after: Sequence[Value]) -> list[Any]:
    if len(after) != len(window.keys):
        raise _broken()
    return [_bound(value, key) for value, key in zip(after, window.keys, strict=True)]


def _bound(value: Value, key: Key) -> Any:
    """A cursor's value as the parameter of its column. A forged cursor ends here, not in the database."""
    if value is None and key.nullable:
        return None
    match key.kind:
        case "text" if isinstance(value, str) and "\0" not in value:
            return value
        case "number" if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63:
            return value
        case "moment" if isinstance(value, str):
            try:
                moment = datetime.fromisoformat(value)
                if moment.tzinfo is not None:
                    return moment.astimezone(UTC)
            except (ValueError, OverflowError):
                raise _broken() from None
    raise _broken()


def _broken() -> Invalid:
    return Invalid("The cursor is broken.", code="invalid_cursor")
