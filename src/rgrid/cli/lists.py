"""Lists as the service gives them: every field of every row, so that programs lose nothing."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rgrid.client.grid import PAGE_MAX, Client


class Rows(NamedTuple):
    """Rows of a list and how many there are in all."""

    rows: list[dict[str, Any]]
    total: int

    def document(self) -> dict[str, Any]:
        return {"data": self.rows, "pagination": {"total": self.total, "shown": len(self.rows)}}


def fetch(
    client: Client,
    path: str,
    query: Mapping[str, object] | None = None,
    wanted: int | None = None,
    page_max: int = PAGE_MAX,
) -> Rows:
    """The first `wanted` rows of a list, or all of them."""
    rows: list[dict[str, Any]] = []
    total = 0
    limit = page_max if wanted is None else min(wanted, page_max)
    for page in client.pages(path, {**(query or {}), "limit": limit}):
        rows += page["data"]
        total = page["pagination"]["total"]
        if wanted is not None and len(rows) >= wanted:
            break
    return Rows(rows[:wanted], total)
