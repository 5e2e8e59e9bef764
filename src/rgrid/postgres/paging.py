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


async def select(connection: Queryable, *, columns: str, source: str, where: Where, window: Window) -> Rows:
    """One page and the total. `columns` and `source` are SQL of the caller's own. Nulls sort last in both directions.
    Raises Invalid (`invalid_cursor`) when `after` doesn't fit the keys."""
    assert window.limit <= LIMIT_MAX
    total: int = await connection.fetchval(f"select count(*) from {source}{where.sql}", *where.args)  # noqa: S608
    if window.after is not None:
        _seek(where, window, window.after)
    direction = "desc" if window.descending else "asc"
    order = ", ".join(f"{key.name} {direction}{' nulls last' if key.nullable else ''}" for key in window.keys)
    rows = await connection.fetch(
        f"select {columns} from {source}{where.sql} order by {order}"  # noqa: S608
        f" limit {window.limit + 1} offset {window.offset}",
        *where.args,
    )
    return Rows(rows=[dict(row) for row in rows], total=total)


def _seek(where: Where, window: Window, after: Sequence[Value]) -> None:
    if len(after) != len(window.keys):
        raise _broken()
    values = [_bound(value, key) for value, key in zip(after, window.keys, strict=True)]
    condition = _beyond(window.keys, values, "<" if window.descending else ">")
    where.add(condition, *(value for value in _named(window.keys, values) if value is not None))


def _named(keys: Sequence[Key], values: Sequence[Any]) -> list[Any]:
    """The parameters in the order in which `_beyond` names them."""
    if not any(key.nullable for key in keys):
        return list(values)
    rest = _named(keys[1:], values[1:]) if len(keys) > 1 else []
    return rest if values[0] is None else [values[0], values[0], *rest]


def _beyond(keys: Sequence[Key], values: Sequence[Any], sign: str) -> str:
    """Rows after the named one. A row comparison where it can be, since that is what an index serves at once."""
    if not any(key.nullable for key in keys):
        return f"({', '.join(key.name for key in keys)}) {sign} ({', '.join('{}' for _ in keys)})"
    key = keys[0]
    rest = _beyond(keys[1:], values[1:], sign) if len(keys) > 1 else "false"
    if values[0] is None:
        return f"({key.name} is null and {rest})"
    null = f" or {key.name} is null" if key.nullable else ""
    return f"({key.name} {sign} {{}}{null} or ({key.name} = {{}} and {rest}))"


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
