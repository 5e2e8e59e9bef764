"""From the page a caller wants to the window a read model answers with, and back."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from rgrid.postgres.paging import Key, Rows, Window
from rgrid.web.pages import Page, PageRequest, page_of

T = TypeVar("T")


def window(request: PageRequest, keys: Sequence[Key]) -> Window:
    """`keys` are what the list is ordered by, the last one unique."""
    return Window(
        keys=tuple(keys),
        descending=request.order == "desc",
        limit=request.limit,
        offset=request.offset,
        after=request.after,
    )


def page(rows: Rows, request: PageRequest, keys: Sequence[Key], item: Callable[[Mapping[str, Any]], T]) -> Page[T]:
    return page_of(rows.rows, rows.total, request, item, lambda row: [row[key.name] for key in keys])
