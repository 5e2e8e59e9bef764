"""Lists: the envelope and opaque keyset cursors. The SQL that continues after one is in `postgres/paging.py`."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from rgrid.kernel.errors import Invalid

T = TypeVar("T")
R = TypeVar("R")
LIMIT_MAX: Final = 1000
CURSOR_LENGTH_MAX: Final = 4096
_VALUES_MAX: Final = 8
Order = Literal["asc", "desc"]
Value = str | int | float | bool | None


class Pagination(msgspec.Struct, kw_only=True):
    """Where a page lies. `total` counts all matches under the same filters."""

    offset: int
    limit: int
    total: int
    has_more: bool
    next_cursor: str | None


class Page(msgspec.Struct, Generic[T]):
    """The envelope of every list."""

    data: list[T]
    pagination: Pagination


class _Cursor(msgspec.Struct, array_like=True, frozen=True):
    """What a page token holds: the fingerprint of the filters, the order, and the last row's keys."""

    scope: str
    sort: str
    order: Order
    after: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page a caller wants. `after` holds the last row's keys in cursor mode, and then `offset` is 0."""

    offset: int = 0
    limit: int = 20
    sort: str = ""
    order: Order = "desc"
    after: tuple[Value, ...] | None = None
    scope: str = ""


def page_struct(sort: tuple[str, ...], order: Order, limit_default: int, limit_max: int) -> type[msgspec.Struct]:
    """The query parameters of a list."""
    fields: list[tuple[str, Any, Any]] = [
        ("offset", Annotated[int, Meta(ge=0, description="How many matches to skip.")], 0),
        ("limit", Annotated[int, Meta(ge=1, le=limit_max, description="How many to answer with.")], limit_default),
        (
            "cursor",
            Annotated[str | None, Meta(description="next_cursor of the page before; filters and order stay.")],
            None,
        ),
    ]
    if sort:
        fields.append(("sort", Annotated[Literal[sort], Meta(description="What to order by.")], sort[0]))
        fields.append(("order", Annotated[Order, Meta(description="Ties go by id in the same direction.")], order))
    return msgspec.defstruct("PageParameters", fields, frozen=True)


def request_of(parameters: Any, filters: Sequence[tuple[str, str]], path: str, order_default: Order) -> PageRequest:
    """The wanted page. Raises Invalid (`invalid_cursor`) for a cursor of another list, filter or order."""
    sort, order = getattr(parameters, "sort", ""), getattr(parameters, "order", order_default)
    scope = _fingerprint(path, filters)
    if parameters.cursor is None:
        return PageRequest(parameters.offset, parameters.limit, sort, order, None, scope)
    if parameters.offset > 0:
        raise _invalid("A cursor and an offset exclude each other.")
    cursor = _decode(parameters.cursor)
    if (cursor.scope, cursor.sort, cursor.order) != (scope, sort, order):
        raise _invalid("The cursor belongs to another list, filter or order.")
    return PageRequest(0, parameters.limit, sort, order, cursor.after, scope)


def page_of(
    rows: Sequence[R], total: int, request: PageRequest, item: Callable[[R], T], keys: Callable[[R], Sequence[Any]]
) -> Page[T]:
    """The envelope of rows that were read with `limit + 1`; `keys` are what the query ordered by."""
    shown = rows[: request.limit]
    has_more = len(rows) > request.limit
    next_cursor = cursor_after(request, keys(shown[-1])) if has_more and shown else None
    return Page(
        [item(row) for row in shown],
        Pagination(offset=request.offset, limit=request.limit, total=total, has_more=has_more, next_cursor=next_cursor),
    )


def slice_page(items: Sequence[T], request: PageRequest) -> Page[T]:
    """The wanted page of a short list that is held in memory."""
    start = request.offset if request.after is None else number_of(request.after)
    rows = [(index, one) for index, one in enumerate(items)][start : start + request.limit + 1]
    return page_of(rows, len(items), request, lambda row: row[1], lambda row: (row[0] + 1,))


def number_of(after: Sequence[Value]) -> int:
    """What the cursor of a list ordered by one whole number holds. Raises Invalid for a forged one."""
    (number,) = after if len(after) == 1 else (None,)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**63:
        raise _invalid("The cursor is broken.")
    return number


def cursor_after(request: PageRequest, keys: Sequence[Any]) -> str:
    """The token that continues after a row with these keys."""
    after = tuple(_travelling(key) for key in keys)
    payload = msgspec.json.encode(_Cursor(request.scope, request.sort, request.order, after))
    return base64.urlsafe_b64encode(_checksum(payload) + payload).rstrip(b"=").decode("ascii")


def _travelling(key: Any) -> Value:
    if isinstance(key, datetime):
        return key.isoformat()
    assert key is None or isinstance(key, str | int | float), f"a cursor can't hold {type(key).__name__}"
    return key


def _fingerprint(path: str, filters: Sequence[tuple[str, str]]) -> str:
    text = msgspec.json.encode([path.rstrip("/"), sorted(filters)])
    return base64.urlsafe_b64encode(hashlib.blake2b(text, digest_size=9).digest()).decode("ascii")


def _checksum(payload: bytes) -> bytes:
    # Against damage, not against forgery: a cursor holds only the caller's own filters and a place in the list.
    return hashlib.blake2b(payload, digest_size=6, person=b"rgrid.cursor").digest()


def _decode(text: str) -> _Cursor:
    if len(text) > CURSOR_LENGTH_MAX:
        raise _invalid("The cursor is broken.")
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        cursor = msgspec.json.decode(raw[6:], type=_Cursor)
    except (ValueError, binascii.Error, UnicodeError, msgspec.MsgspecError):
        raise _invalid("The cursor is broken.") from None
    if raw[:6] != _checksum(raw[6:]) or len(cursor.after) > _VALUES_MAX:
        raise _invalid("The cursor is broken.")
    return cursor


def _invalid(detail: str) -> Invalid:
    return Invalid(detail, code="invalid_cursor")
