"""Answers as of an earlier moment: one execution and the list, by position and by time."""

from typing import Any

import pytest
from api.one_service import Live, problem

PATH = "/api/v1/executions"
MINE = {"metadata[suite]": "as of"}


@pytest.fixture(scope="module")
def story(live: Live) -> dict[str, Any]:
    """An execution that waited for an input, ran and ended; its events by type."""
    execution = live.submit("print(open('a').read())", input_files=["a"], user_metadata={"suite": "as of"})
    live.http.put(execution["upload_urls"]["a"], content=b"text")
    live.http.post(f"{PATH}/{execution['execution_id']}/inputs/complete")
    ended = live.ended(execution["execution_id"])
    events = live.events(ended["execution_id"])
    return {"ended": ended, "id": ended["execution_id"], "at": {event["type"].split(".")[1]: event for event in events}}


def test_every_stage_of_an_execution_can_be_seen_again(live: Live, story: dict[str, Any]) -> None:
    for event, status in (
        ("submitted", "awaiting_inputs"),
        ("inputs_verified", "awaiting_inputs"),
        ("queued", "queued"),
        ("claimed", "running"),
        ("completed", "completed"),
    ):
        at = story["at"][event]
        for as_of in (at["position"], at["occurred_at"]):
            answer = live.http.get(f"{PATH}/{story['id']}", params={"as_of": as_of})
            assert answer.status_code == 200, answer.text
            seen = answer.json()
            if as_of == at["position"]:
                assert (seen["status"], seen["version"]) == (status, at["stream_version"])
            assert seen["version"] >= at["stream_version"]
            assert int(answer.headers["rgrid-as-of-position"]) >= at["position"]
            assert "etag" not in answer.headers
            assert (seen["upload_urls"], seen["download_urls"], seen["queue_position"]) == (None, None, None)
            assert [one["upload_url"] for one in seen["inputs"]] == [None]


def test_the_past_shows_only_what_was_known_then(live: Live, story: dict[str, Any]) -> None:
    early = live.get(story["id"], as_of=story["at"]["submitted"]["position"])
    assert (early["inputs"][0]["state"], early["inputs"][0]["sha256"], early["attempts"]) == ("pending", None, [])
    assert (early["stdout"], early["exit_code"], early["completed_at"]) == (None, None, None)
    verified = live.get(story["id"], as_of=story["at"]["queued"]["position"])
    assert verified["inputs"][0]["state"] == "verified"
    running = live.get(story["id"], as_of=story["at"]["claimed"]["position"])
    assert running["attempts"][0]["status"] == "running"
    late = live.get(story["id"], as_of=story["at"]["completed"]["position"])
    linked = {"download_urls", "urls_expire_at"}
    assert {name: late[name] for name in late if name not in linked} == {
        name: story["ended"][name] for name in late if name not in linked
    }


def test_a_list_of_the_past_filters_sorts_and_counts_as_it_did_then(live: Live, story: dict[str, Any]) -> None:
    at = story["at"]
    later = live.submit("print(1)", user_metadata={"suite": "as of"})
    for event, status in (("submitted", "awaiting_inputs"), ("claimed", "running"), ("completed", "completed")):
        answer = live.http.get(PATH, params={"as_of": at[event]["position"], **MINE})
        page = answer.json()
        assert [row["status"] for row in page["data"]] == [status]
        assert page["pagination"]["total"] == 1
        assert answer.headers["rgrid-as-of-position"] == str(at[event]["position"])
        assert live.ids(as_of=at[event]["position"], status=status, **MINE) == [story["id"]]
        assert live.ids(as_of=at[event]["position"], status="failed", **MINE) == []
    assert live.ids(as_of=at["submitted"]["position"] - 1, **MINE) == []
    assert set(live.ids(**MINE)) == {story["id"], later["execution_id"]}
    live.stop(later["execution_id"])


def test_a_list_of_the_past_pages_by_cursor(live: Live, story: dict[str, Any]) -> None:
    position = story["at"]["completed"]["position"]
    whole = live.page(PATH, as_of=position, limit=1000)
    seen, query = [], {"as_of": position, "limit": len(whole["data"]) // 3 + 1}
    while True:
        page = live.page(PATH, **query)
        seen += page["data"]
        if not page["pagination"]["has_more"]:
            break
        query["cursor"] = page["pagination"]["next_cursor"]
    assert seen == whole["data"]
    moved = {"as_of": position - 1, "cursor": live.page(PATH, as_of=position, limit=1)["pagination"]["next_cursor"]}
    if moved["cursor"]:
        problem(live.http.get(PATH, params=moved), 400, "invalid_cursor")


def test_the_present_seen_as_of_now_is_the_present(live: Live, story: dict[str, Any]) -> None:
    head = live.http.get("/api/v1/health").json()["position"]
    assert live.page(PATH, as_of=head, **MINE)["data"] == live.page(PATH, **MINE)["data"]


def test_what_did_not_exist_yet_is_404(live: Live, story: dict[str, Any]) -> None:
    before = story["at"]["submitted"]["position"] - 1
    for as_of in (before, 0, "2020-01-01", "2020-01-01T00:00:00Z"):
        problem(live.http.get(f"{PATH}/{story['id']}", params={"as_of": as_of}), 404, "not_found")
    assert live.page(PATH, as_of="2020-01-01")["pagination"]["total"] == 0
    assert live.page(PATH, as_of=0)["data"] == []


@pytest.mark.parametrize("as_of", ["2999-01-01T00:00:00Z", "9998-12-31", str(10**17), "9" * 18])
def test_the_future_is_out_of_range(live: Live, story: dict[str, Any], as_of: str) -> None:
    for path in (PATH, f"{PATH}/{story['id']}"):
        problem(live.http.get(path, params={"as_of": as_of}), 400, "as_of_out_of_range")


@pytest.mark.parametrize("as_of", ["", "yesterday", "-1", "1.5", "9" * 30, "2026-13-01", "0001-01-01T00:00:00+14:00"])
def test_what_is_neither_a_time_nor_a_position_is_400(live: Live, story: dict[str, Any], as_of: str) -> None:
    for path in (PATH, f"{PATH}/{story['id']}"):
        answer = live.http.get(path, params={"as_of": as_of})
        assert answer.status_code == 400, answer.text
        assert answer.json()["code"] in ("invalid_as_of", "as_of_out_of_range")
    problem(live.http.get(f"{PATH}?as_of=1&as_of=2"), 422, "validation_failed")


def test_secrets_stay_hidden_in_the_past(live: Live) -> None:
    ended = live.run("print(1)", env_vars={"TOKEN": "hush 9917"})
    position = live.events(ended["execution_id"])[0]["position"]
    answer = live.http.get(f"{PATH}/{ended['execution_id']}", params={"as_of": position})
    assert answer.json()["env_vars"] == {"TOKEN": "***"}
    assert "hush" not in answer.text
