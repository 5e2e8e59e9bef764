"""Paging: cursors that belong to one list, and SQL that neither skips nor repeats."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from notes import OPERATIONS
from serving import READER, client
from test_problems import check

from rgrid.kernel.errors import Invalid
from rgrid.postgres.paging import Key, Where, Window, select
from rgrid.web.pages import (
    Order,
    PageRequest,
    cursor_after,
    page_of,
    page_struct,
    request_of,
    slice_page,
)

PARAMETERS = page_struct(("created_at", "name"), "desc", 20, 1000)


def ask(filters: list[tuple[str, str]] | None = None, path: str = "/things", **given: Any) -> PageRequest:
    return request_of(PARAMETERS(**given), filters or [], path, "desc")


def test_a_cursor_continues_its_own_list_only() -> None:
    first = ask([("status", "queued")])
    cursor = cursor_after(first, ["2026-01-01T00:00:00+00:00", "id_1"])
    again = ask([("status", "queued")], cursor=cursor, limit=5)
    assert (again.after, again.offset, again.limit) == (("2026-01-01T00:00:00+00:00", "id_1"), 0, 5)
    for other in (
        {"cursor": cursor},
        {"cursor": cursor, "filters": [("status", "running")]},
        {"cursor": cursor, "filters": [("status", "queued")], "sort": "name"},
        {"cursor": cursor, "filters": [("status", "queued")], "order": "asc"},
        {"cursor": cursor, "filters": [("status", "queued")], "path": "/others"},
        {"cursor": cursor, "filters": [("status", "queued")], "offset": 1},
    ):
        with pytest.raises(Invalid) as caught:
            ask(**other)
        assert caught.value.code == "invalid_cursor"


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.binary(max_size=60).map(lambda raw: raw.decode("latin-1"))))
def test_a_broken_cursor_is_refused_and_nothing_worse(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        ask(cursor=text)
    assert caught.value.code == "invalid_cursor"


@given(st.integers(0, 60), st.sampled_from("ABCxyz019-_"))
@settings(max_examples=100, deadline=None)
def test_a_cursor_with_one_changed_character_is_refused(at: int, letter: str) -> None:
    cursor = cursor_after(ask(), ["2026-01-01T00:00:00+00:00", "id_1"])
    changed = cursor[:at] + letter + cursor[at + 1 :]
    if changed != cursor:
        with pytest.raises(Invalid):
            ask(cursor=changed)


def test_a_list_in_memory_pages_by_offset_and_by_cursor() -> None:
    items = list(range(7))
    page = slice_page(items, PageRequest(offset=2, limit=3))
    assert (page.data, page.pagination.total, page.pagination.has_more) == ([2, 3, 4], 7, True)
    assert slice_page(items, PageRequest(offset=5, limit=3)).pagination.next_cursor is None
    assert slice_page(items, PageRequest(limit=3, after=(5,))).data == [5, 6]
    assert slice_page([], PageRequest()).pagination.total == 0
    with pytest.raises(Invalid):
        slice_page(items, PageRequest(after=("x",)))


# ---------------------------------------------------------------- against Postgres

ROWS = 57
KEYS = {
    "made_at": Key("made_at", "moment"),
    "cost": Key("cost", "number", nullable=True),
    "name": Key("name", "text", nullable=True),
}
ID = Key("id")


async def fill(connection: asyncpg.Connection) -> None:
    await connection.execute(
        "create table things (id text primary key, made_at timestamptz not null, cost float8, name text)"
    )
    start = datetime(2026, 1, 1, tzinfo=UTC)
    await connection.executemany(
        "insert into things values ($1, $2, $3, $4)",
        [
            (
                f"t{n:03}",
                start + timedelta(microseconds=n // 4),
                None if n % 5 == 0 else (n % 7) / 4,
                None if n % 3 == 0 else f"n{n % 4}",
            )
            for n in range(ROWS)
        ],
    )


async def read(connection: asyncpg.Connection, request: PageRequest) -> Any:
    rows = await select(connection, columns="*", source="things", where=Where(), window=window(request))
    return page_of(rows.rows, rows.total, request, lambda row: row["id"], lambda row: (row[request.sort], row["id"]))


def window(request: PageRequest) -> Window:
    return Window(
        keys=(KEYS[request.sort], ID),
        descending=request.order == "desc",
        limit=request.limit,
        offset=request.offset,
        after=request.after,
    )


@pytest.mark.parametrize("sort", sorted(KEYS))
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_walking_by_cursor_or_offset_gives_each_row_once_and_nulls_last(
    empty_database: str, sort: str, order: Order
) -> None:
    async def scenario() -> None:
        connection = await asyncpg.connect(empty_database)
        await fill(connection)
        parameters = page_struct(tuple(KEYS), "desc", 20, 1000)
        whole = await connection.fetch(
            f"select id, {sort} is null as missing from things order by {sort} {order} nulls last, id {order}"
        )
        expected = [row["id"] for row in whole]
        assert [row["missing"] for row in whole] == sorted(row["missing"] for row in whole)
        walked: list[str] = []
        offsets: list[str] = []
        cursor: str | None = None
        while True:
            page = await read(
                connection,
                request_of(parameters(sort=sort, order=order, limit=10, cursor=cursor), [], "/things", "desc"),
            )
            offsets += (
                await read(
                    connection,
                    request_of(
                        parameters(sort=sort, order=order, limit=10, offset=len(offsets)), [], "/things", "desc"
                    ),
                )
            ).data
            walked += page.data
            cursor = page.pagination.next_cursor
            assert page.pagination.has_more == (cursor is not None)
            if cursor is None:
                break
        assert walked == expected
        assert offsets == expected
        await connection.close()

    asyncio.run(scenario())


def test_rows_that_arrive_while_a_client_pages_cause_no_repeat_and_no_gap(empty_database: str) -> None:
    async def scenario() -> None:
        connection = await asyncpg.connect(empty_database)
        await fill(connection)
        older = [row["id"] for row in await connection.fetch("select id from things order by made_at desc, id desc")]
        parameters = page_struct(("made_at",), "desc", 20, 1000)
        walked: list[str] = []
        cursor = None
        for number in range(100):
            page = await read(connection, request_of(parameters(limit=7, cursor=cursor), [], "/things", "desc"))
            walked += page.data
            cursor = page.pagination.next_cursor
            if cursor is None:
                break
            await connection.execute("insert into things values ($1, now())", f"new{number}")
        assert walked == older
        await connection.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "after", [("x", "a"), (True, "a"), (1, None), (None, "a"), (1,), ("2026-01-01", "a"), (1, "\0")]
)
def test_a_forged_cursor_never_reaches_the_database(after: tuple[Any, ...], empty_database: str) -> None:
    kind = Key("made_at", "moment") if isinstance(after[0], str) else Key("cost", "number")

    async def scenario() -> None:
        connection = await asyncpg.connect(empty_database)
        await fill(connection)
        with pytest.raises(Invalid):
            await select(
                connection, columns="*", source="things", where=Where(), window=Window(keys=(kind, ID), after=after)
            )
        await connection.close()

    asyncio.run(scenario())


def test_a_list_over_http_pages_and_refuses() -> None:
    async def scenario() -> None:
        async with client(*OPERATIONS, headers=READER) as http:
            first = (await http.get("/api/v1/notes?limit=20&colour=red")).json()
            assert first["pagination"]["total"] == 45
            cursor = first["pagination"]["next_cursor"]
            second = (await http.get(f"/api/v1/notes/?colour=red&limit=30&cursor={cursor}")).json()
            assert [note["id"] for note in second["data"]] == [f"note_{n}" for n in range(20, 45)]
            assert second["pagination"] == {
                "offset": 0,
                "limit": 30,
                "total": 45,
                "has_more": False,
                "next_cursor": None,
            }
            check(await http.get(f"/api/v1/notes?colour=blue&cursor={cursor}"), 400, "invalid_cursor")
            check(await http.get(f"/api/v1/notes?colour=red&offset=1&cursor={cursor}"), 400, "invalid_cursor")
            for wrong in ("limit=0", "limit=-1", "limit=1001", "limit=x", "offset=-1", "sort=colour", "order=up"):
                check(await http.get(f"/api/v1/notes?{wrong}"), 422, "validation_failed")
            check(await http.get("/api/v1/notes?as_of=2999-01-01"), 400, "as_of_out_of_range")
            check(await http.get("/api/v1/notes?as_of=soon"), 400, "invalid_as_of")

    asyncio.run(scenario())
