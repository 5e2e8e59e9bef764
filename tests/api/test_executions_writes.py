"""What a mutation promises: one transaction, a position to wait for, a version, and no second effect of a repeat."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import httpx
import pytest
from api.one_service import JSON, Live, moment, problem, service

PATH = "/api/v1/executions"
BODY = {"script_content": "print(1)"}
_keys = count(1)


def key() -> dict[str, str]:
    return {"idempotency-key": f"key-{next(_keys)}"}


def total(idle: Live, suite: str) -> int:
    number: int = idle.page(PATH, **{"metadata[suite]": suite})["pagination"]["total"]
    return number


def test_an_answer_to_a_mutation_names_the_position_of_its_last_event(idle: Live) -> None:
    made = idle.create(**BODY)
    events = idle.events(made.json()["execution_id"])
    assert int(made.headers["rgrid-position"]) == events[-1]["position"]
    assert [event["stream_version"] for event in events] == [1, 2]
    assert made.json()["version"] == 2


def test_a_refused_mutation_writes_nothing_and_names_no_position(idle: Live) -> None:
    refused = idle.create(script_content="x", runtime="cobol")
    assert "rgrid-position" not in refused.headers


def test_ones_own_writes_are_in_the_next_list_without_any_header(idle: Live) -> None:
    for _ in range(20):
        made = idle.submit("print(1)")["execution_id"]
        assert idle.ids(limit=1) == [made]
        assert idle.cancel(made).json()["status"] == "cancelled"
        (row,) = idle.page(PATH, limit=1)["data"]
        assert (row["execution_id"], row["status"]) == (made, "cancelled")


def test_a_list_waits_for_the_position_that_is_asked_for(idle: Live) -> None:
    made = idle.create(**BODY)
    position = made.headers["rgrid-position"]
    for path in (PATH, f"{PATH}/{made.json()['execution_id']}", "/api/v1/workers"):
        assert idle.http.get(path, headers={"rgrid-min-position": position}).status_code == 200
    listed = idle.http.get(PATH, params={"limit": 1}, headers={"rgrid-min-position": position}).json()
    assert listed["data"][0]["execution_id"] == made.json()["execution_id"]


def test_a_position_that_is_never_reached_is_503_after_a_bounded_wait(idle: Live) -> None:
    answer = idle.http.get(PATH, headers={"rgrid-min-position": str(10**17)})
    problem(answer, 503, "position_not_reached")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("position", ["-1", "x", "1.5", "9" * 30, "", "1, 2"])
def test_a_position_that_is_no_number_is_422(idle: Live, position: str) -> None:
    problem(idle.http.get(PATH, headers={"rgrid-min-position": position}), 422, "validation_failed")


def test_an_etag_is_the_version_and_saves_an_answer_that_is_known(idle: Live) -> None:
    path = f"{PATH}/{idle.submit('print(1)')['execution_id']}"
    first = idle.http.get(path)
    etag = first.headers["etag"]
    assert etag == f'"{first.json()["version"]}"'
    for known in (etag, f"W/{etag}", f'"zzz", {etag}', "*"):
        again = idle.http.get(path, headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    for other in ('"999"', "nonsense", ""):
        assert idle.http.get(path, headers={"if-none-match": other}).status_code == 200
    idle.http.post(f"{path}/cancel")
    changed = idle.http.get(path, headers={"if-none-match": etag})
    assert changed.status_code == 200
    assert changed.json()["version"] > first.json()["version"]


def test_a_repeat_under_the_same_key_is_the_same_answer_byte_for_byte(idle: Live) -> None:
    given = key()
    body = {**BODY, "user_metadata": {"suite": "repeat", "a": "1"}, "input_files": ["x"]}
    first = idle.http.post(PATH, json=body, headers=given)
    swapped = '{ "user_metadata": {"a": "1", "suite": "repeat"},\n"input_files":["x"], "script_content": "print(1)"}'
    for again in (
        idle.http.post(PATH, json=body, headers=given),
        idle.http.post(f"{PATH}/", content=swapped, headers=given | JSON),
    ):
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["idempotency-replayed"] == "true"
        for name in ("location", "etag", "rgrid-position"):
            assert again.headers[name] == first.headers[name]
    assert "idempotency-replayed" not in first.headers
    assert total(idle, "repeat") == 1


def test_the_same_key_for_another_request_is_a_conflict(idle: Live) -> None:
    given = key()
    assert idle.http.post(PATH, json=BODY, headers=given).status_code == 201
    problem(idle.http.post(PATH, json={"script_content": "print(2)"}, headers=given), 409, "idempotency_conflict")


def test_a_key_belongs_to_its_actor_method_and_path(idle: Live) -> None:
    given = key()
    first = idle.http.post(PATH, json=BODY, headers=given).json()
    other = idle.call("POST", PATH, idle.key("run"), json=BODY, headers=given)
    assert other.status_code == 201
    assert other.json()["execution_id"] != first["execution_id"]
    cancelled = idle.http.post(f"{PATH}/{first['execution_id']}/cancel", headers=given)
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")


def test_a_refusal_is_not_kept(idle: Live) -> None:
    given = key()
    problem(idle.http.post(PATH, json={**BODY, "runtime": "cobol"}, headers=given), 422, "unknown_runtime")
    assert idle.http.post(PATH, json=BODY, headers=given).status_code == 201


@pytest.mark.parametrize("bad", ["", "x" * 256, "a b", "tab\t1", "é"])
def test_an_odd_key_is_400_and_nothing_runs(idle: Live, bad: str) -> None:
    headers = httpx.Headers({"idempotency-key": bad}, encoding="latin-1")
    answer = idle.http.post(PATH, json={**BODY, "user_metadata": {"suite": "odd key"}}, headers=headers)
    problem(answer, 400, "invalid_idempotency_key")
    assert total(idle, "odd key") == 0


def test_equal_requests_at_the_same_time_make_one_execution(idle: Live) -> None:
    for round_ in range(5):
        given, together = key(), threading.Barrier(12)
        body = {**BODY, "user_metadata": {"suite": f"same time {round_}"}}

        def post(_: int, given: Any = given, body: Any = body, together: Any = together) -> httpx.Response:
            together.wait()
            return idle.http.post(PATH, json=body, headers=given)

        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(post, range(12)))
        made = {answer.json()["execution_id"] for answer in answers if answer.status_code == 201}
        assert len(made) == 1
        for answer in answers:
            if answer.status_code != 201:
                problem(answer, 409, "idempotency_in_progress")
                assert int(answer.headers["retry-after"]) >= 1
        assert total(idle, f"same time {round_}") == 1
        assert idle.http.post(PATH, json=body, headers=given).json()["execution_id"] in made


def test_many_writers_at_the_same_time_lose_nothing(idle: Live) -> None:
    def post(n: int) -> str:
        execution_id: str = idle.submit("print(1)", user_metadata={"suite": "many"})["execution_id"]
        return execution_id

    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(post, range(100)))
    assert len(set(made)) == 100
    assert sorted(idle.ids(limit=1000, **{"metadata[suite]": "many"})) == sorted(made)


def test_a_kept_answer_survives_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, given = tmp_path_factory.mktemp("restarted"), key()
    folder.chmod(0o755)
    with service(folder, slots=0) as before:
        first = before.http.post(PATH, json=BODY, headers=given)
    with service(folder, slots=0) as after:
        again = after.http.post(PATH, json=BODY, headers=given)
        assert again.headers["idempotency-replayed"] == "true"
        assert again.content == first.content
        assert after.page(PATH)["pagination"]["total"] == 1
        assert after.get(first.json()["execution_id"])["status"] == "queued"


def test_cancelling_what_is_cancelled_is_200_and_writes_nothing(idle: Live) -> None:
    execution_id = idle.submit("print(1)")["execution_id"]
    assert idle.cancel(execution_id).headers["rgrid-position"]
    before = idle.events(execution_id)
    again = idle.cancel(execution_id)
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")
    assert idle.events(execution_id) == before


def test_an_executions_events_tell_who_did_what_in_which_request(idle: Live) -> None:
    secret = idle.key("run")
    actor = idle.call("GET", "/api/v1/me", secret).json()["actor"]
    made = idle.call("POST", PATH, secret, json=BODY, headers={"x-request-id": "the-request"}).json()
    idle.cancel(made["execution_id"])
    submitted, queued, cancelled = idle.events(made["execution_id"])
    assert (submitted["type"], submitted["schema_version"]) == ("execution.submitted", 1)
    assert (queued["type"], cancelled["type"]) == ("execution.queued", "execution.cancelled")
    assert (submitted["actor"], submitted["request_id"]) == (actor, "the-request")
    assert cancelled["actor"] != actor
    assert submitted["stream"] == f"execution-{made['execution_id']}"
    assert submitted["position"] < queued["position"] < cancelled["position"]
    assert moment(submitted["occurred_at"]) <= moment(cancelled["occurred_at"])
    assert submitted["data"]["created_by"] == actor
    assert (submitted["hash"], submitted["prev_hash"]) == (None, None)


def test_events_page_oldest_first(live: Live, finished: dict[str, Any]) -> None:
    path = f"{PATH}/{finished['execution_id']}/events"
    whole = live.page(path, limit=1000)["data"]
    assert [event["position"] for event in whole] == sorted(event["position"] for event in whole)
    seen, query = [], {"limit": 2}
    while True:
        page = live.page(path, **query)
        seen += page["data"]
        if not page["pagination"]["has_more"]:
            break
        query["cursor"] = page["pagination"]["next_cursor"]
    assert seen == whole
    assert live.page(path, offset=3, limit=1)["data"] == whole[3:4]


def test_ids_grow_with_time(idle: Live) -> None:
    made = [idle.submit("1")["execution_id"] for _ in range(5)]
    assert made == sorted(made)
    time.sleep(0.002)
    assert idle.submit("1")["execution_id"] > made[-1]
