"""Lists of executions: filters, order, pages by offset and by cursor, and every parameter that makes no sense."""

import base64
import json
from typing import Any

import pytest
from api.one_service import Live, fields, moment, problem

PATH = "/api/v1/executions"
MINE = {"metadata[suite]": "lists"}
COUNT = 7


@pytest.fixture(scope="module")
def rows(idle: Live) -> list[str]:
    """Seven queued executions, oldest first."""
    made = []
    for n in range(COUNT):
        metadata = {"suite": "lists", "n": str(n), "dotted.key[x]": "a b&c=d"}
        name = "even" if n % 2 == 0 else "odd"
        execution = idle.submit("print(1)", name=name, user_metadata=metadata, batch_id=f"batch_lists0{n % 2:03}")
        made.append(execution["execution_id"])
    return made


def test_a_list_is_an_envelope_with_an_exact_total(idle: Live, rows: list[str]) -> None:
    page = idle.page(PATH, limit=3, **MINE)
    assert page.keys() == {"data", "pagination"}
    assert len(page["data"]) == 3
    cursor = page["pagination"].pop("next_cursor")
    assert page["pagination"] == {"offset": 0, "limit": 3, "total": COUNT, "has_more": True}
    assert isinstance(cursor, str)


def test_an_empty_list_is_empty_and_nothing_else(idle: Live) -> None:
    empty = idle.page(PATH, name="nobody is called that")
    assert empty == {
        "data": [],
        "pagination": {"offset": 0, "limit": 20, "total": 0, "has_more": False, "next_cursor": None},
    }


def test_the_newest_come_first_unless_asked_otherwise(idle: Live, rows: list[str]) -> None:
    assert idle.ids(**MINE) == rows[::-1]
    assert idle.ids(order="asc", **MINE) == rows


@pytest.mark.parametrize("sort", ["created_at", "started_at", "completed_at", "duration_ms", "cost_micros"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_by_cursor_neither_skip_nor_repeat_in_any_order(
    idle: Live, rows: list[str], sort: str, order: str
) -> None:
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2, "sort": sort, "order": order, **MINE}
    while True:
        page = idle.page(PATH, **query)
        assert page["pagination"]["offset"] == 0
        assert page["pagination"]["total"] == COUNT
        seen += [row["execution_id"] for row in page["data"]]
        if not page["pagination"]["has_more"]:
            assert page["pagination"]["next_cursor"] is None
            break
        query["cursor"] = page["pagination"]["next_cursor"]
    assert seen == (rows if order == "asc" else rows[::-1])


def test_offsets_reach_every_row_and_end_after_the_last(idle: Live, rows: list[str]) -> None:
    seen = [idle.ids(offset=n, limit=1, **MINE) for n in range(COUNT)]
    assert seen == [[row] for row in rows[::-1]]
    beyond = idle.page(PATH, offset=10**15, **MINE)
    assert (beyond["data"], beyond["pagination"]["total"], beyond["pagination"]["has_more"]) == ([], COUNT, False)
    exact = idle.page(PATH, limit=COUNT, **MINE)["pagination"]
    assert (exact["has_more"], exact["next_cursor"]) == (False, None)


def test_rows_that_arrive_while_paging_by_cursor_change_nothing_among_the_older_ones(idle: Live) -> None:
    mine = {"metadata[suite]": "arriving"}
    old = [idle.submit("1", user_metadata={"suite": "arriving"})["execution_id"] for _ in range(4)]
    first = idle.page(PATH, limit=2, **mine)
    idle.submit("1", user_metadata={"suite": "arriving"})
    second = idle.page(PATH, limit=2, cursor=first["pagination"]["next_cursor"], **mine)
    assert [row["execution_id"] for row in first["data"] + second["data"]] == old[::-1]
    assert second["pagination"]["total"] == 5


def test_what_never_started_comes_last_in_both_directions(live: Live) -> None:
    mine = {"metadata[suite]": "nulls"}
    ran = live.run("1", user_metadata={"suite": "nulls"})["execution_id"]
    waits = live.submit("1", user_metadata={"suite": "nulls"}, input_files=["a"])["execution_id"]
    assert live.ids(sort="started_at", order="asc", **mine) == [ran, waits]
    assert live.ids(sort="started_at", order="desc", **mine) == [ran, waits]
    live.cancel(waits)


def test_every_filter_narrows_and_filters_join_by_and(idle: Live, live: Live, rows: list[str]) -> None:
    even, odd = rows[::2][::-1], rows[1::2][::-1]
    assert idle.ids(name="even", **MINE) == even
    assert idle.ids(batch_id="batch_lists0001") == odd
    assert idle.ids(name="even", batch_id="batch_lists0001") == []
    assert idle.ids(status="queued", limit=1000, **MINE) == rows[::-1]
    assert idle.ids(status="running", **MINE) == []
    assert idle.ids(runtime="python", **MINE) == rows[::-1]
    assert idle.ids(runtime="python:3.11", **MINE) == rows[::-1]
    assert idle.ids(runtime="cobol", **MINE) == []
    failed = live.run("raise SystemExit(2)", user_metadata={"suite": "failed"})["execution_id"]
    assert live.ids(failure_reason="exit_code", status="failed", **{"metadata[suite]": "failed"}) == [failed]
    assert live.ids(failure_reason="timeout", **{"metadata[suite]": "failed"}) == []


def test_metadata_compares_whole_strings_under_any_key(idle: Live, rows: list[str]) -> None:
    assert idle.ids(**{"metadata[n]": "3", **MINE}) == [rows[3]]
    assert idle.ids(**{"metadata[n]": "3", "metadata[suite]": "other"}) == []
    assert idle.ids(**{"metadata[n]": "3x", **MINE}) == []
    assert idle.ids(**{"metadata[dotted.key[x]]": "a b&c=d", **MINE}) == rows[::-1]
    assert idle.ids(**{"metadata[dotted.key[x]]": "a b", **MINE}) == []
    assert idle.ids(**{"metadata[]": "x"}) == []
    raw = idle.http.get(f"{PATH}?metadata%5Bdotted.key%5Bx%5D%5D=a%20b%26c%3Dd&metadata%5Bn%5D=5")
    assert [row["execution_id"] for row in raw.json()["data"]] == [rows[5]]
    twice = idle.http.get(f"{PATH}?metadata[n]=5&metadata[n]=6")
    problem(twice, 422, "validation_failed")


def test_since_is_inclusive_and_until_exclusive(idle: Live, rows: list[str]) -> None:
    at = [idle.get(row)["created_at"] for row in rows]
    assert idle.ids(since=at[3], order="asc", **MINE) == rows[3:]
    assert idle.ids(until=at[3], order="asc", **MINE) == rows[:3]
    assert idle.ids(since=at[2], until=at[5], order="asc", **MINE) == rows[2:5]
    assert idle.ids(since=at[3], until=at[3], **MINE) == []
    without_offset = at[3].removesuffix("Z")
    assert idle.ids(since=without_offset, order="asc", **MINE) == rows[3:]
    elsewhere = moment(at[3]).astimezone(moment("2026-01-01T00:00:00Z").tzinfo).isoformat()
    assert idle.ids(since=elsewhere, order="asc", **MINE) == rows[3:]
    day = at[0][:10]
    assert idle.ids(since=day, order="asc", **MINE) == rows
    assert idle.ids(until=day, **MINE) == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "limit=1.0",
        "limit=%2B5",
        "limit=5&limit=6",
        "limit=" + "9" * 30,
        "offset=-1",
        "offset=" + "9" * 30,
        "sort=name",
        "sort=created_at;drop",
        "order=up",
        "order=DESC",
        "status=done",
        "status=COMPLETED",
        "status=queued&status=failed",
        "failure_reason=bad",
        "since=yesterday",
        "since=2026-13-01",
        "since=2026-02-30T00:00:00Z",
        "since=0001-01-01T00:00:00%2B14:00",
        "until=1e5",
        "name=%00",
        "name=%ff",
        "metadata[a]=%00",
        "metadata[a%00]=x",
    ],
)
def test_a_parameter_out_of_its_bounds_is_422_and_named(idle: Live, query: str) -> None:
    answer = idle.http.get(f"{PATH}?{query}")
    problem(answer, 422, "validation_failed")
    assert all(field.startswith(f"query.{query.partition('=')[0][:5]}") for field in fields(answer)), answer.text


@pytest.mark.parametrize("query", ["foo=1", "metadata=x", "metadata[a=x", "Limit=5", "as-of=1", "q", "%F0%9F%8E%89=1"])
def test_an_unknown_parameter_is_422(idle: Live, query: str) -> None:
    problem(idle.http.get(f"{PATH}?{query}"), 422, "unknown_parameter")


def test_a_range_that_ends_before_it_begins_is_400(idle: Live) -> None:
    problem(idle.http.get(f"{PATH}?since=2026-02-01&until=2026-01-01"), 400, "invalid_range")


def test_a_cursor_fits_only_its_own_list(idle: Live, rows: list[str]) -> None:
    cursor = idle.page(PATH, limit=2, **MINE)["pagination"]["next_cursor"]
    for other in (
        {"limit": 2},
        {"name": "even", **MINE},
        {"sort": "cost_micros", **MINE},
        {"order": "asc", **MINE},
        {"offset": 1, **MINE},
        {"metadata[suite]": "other"},
    ):
        problem(idle.http.get(PATH, params={"cursor": cursor, **other}), 400, "invalid_cursor")
    problem(idle.http.get(f"{PATH}/{rows[0]}/events", params={"cursor": cursor}), 400, "invalid_cursor")
    problem(idle.http.get("/api/v1/keys", params={"cursor": cursor}), 400, "invalid_cursor")
    assert idle.page(PATH, limit=5, cursor=cursor, **MINE)["pagination"]["limit"] == 5


def forged(cursor: str, after: list[Any]) -> str:
    """The cursor with another place in it, and the checksum that a stranger who read our code would compute."""
    from rgrid.web.pages import _checksum  # the point is that knowing it gains nothing

    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    parts = json.loads(raw[6:])
    payload = json.dumps([*parts[:3], after]).encode()
    return base64.urlsafe_b64encode(_checksum(payload) + payload).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "after",
    [[], ["x"], [1, 2], [None, None], ["2026-01-01T00:00:00+00:00", 5], ["2026-01-01T00:00:00", "exec"],
     ["not a time", "exec"], ["9999-99-99T00:00:00+00:00", "x"], [2**70, "x"], ["0001-01-01T00:00:00+14:00", "x"],
     ["2026-01-01T00:00:00+00:00", "\0"], [True, False], [1e308, "x"], ["x"] * 50, [{"a": 1}, "x"]],
    ids=str,
)  # fmt: skip
def test_a_forged_cursor_is_400(idle: Live, rows: list[str], after: list[Any]) -> None:
    cursor = idle.page(PATH, limit=2, **MINE)["pagination"]["next_cursor"]
    problem(idle.http.get(PATH, params={"limit": 2, "cursor": forged(cursor, after), **MINE}), 400, "invalid_cursor")


@pytest.mark.parametrize("after", [[-1], [2**70], ["x"], [1.5], [True], [None], []], ids=str)
@pytest.mark.parametrize("sub", ["logs", "events", "artifacts"])
def test_a_forged_cursor_of_a_list_within_an_execution_is_400(
    live: Live, finished: dict[str, Any], sub: str, after: list[Any]
) -> None:
    path = f"{PATH}/{finished['execution_id']}/{sub}"
    cursor = live.page(path, limit=1)["pagination"]["next_cursor"]
    problem(live.http.get(path, params={"limit": 1, "cursor": forged(cursor, after)}), 400, "invalid_cursor")


@pytest.mark.parametrize("cursor", ["", "x", "%%%", "A" * 5000, "AAAA", "é", "bm90IGEgY3Vyc29yIGF0IGFsbA", "\n"])
def test_a_broken_cursor_is_400(idle: Live, cursor: str) -> None:
    problem(idle.http.get(PATH, params={"cursor": cursor}), 400, "invalid_cursor")


def test_boolean_and_number_forms_of_other_lists_are_not_taken_here(idle: Live) -> None:
    problem(idle.http.get(f"{PATH}?limit=true"), 422, "validation_failed")
    assert idle.http.get(f"{PATH}?limit=007").status_code in (200, 422)
