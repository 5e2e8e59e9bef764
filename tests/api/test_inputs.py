"""Inputs: declared, uploaded under signed addresses, verified before anything runs."""

import hashlib
import json
import os
import time
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from api.one_service import Live, moment, problem

from rgrid.adapters.signing import Grant
from rgrid.kernel.clock import now

READ_ALL = (
    "import os, json, hashlib\nfound = {}\nfor folder, _, files in os.walk('.'):\n    for name in files:\n"
    "        path = os.path.join(folder, name)\n        found[os.path.relpath(path, '.')] = "
    "hashlib.sha256(open(path,'rb').read()).hexdigest()\nprint(json.dumps(found))"
)


def complete(live: Live, execution: dict[str, Any], **more: Any) -> httpx.Response:
    return live.http.post(f"/api/v1/executions/{execution['execution_id']}/inputs/complete", **more)


def put(address: str, content: bytes) -> httpx.Response:
    return httpx.put(address, content=content, timeout=60)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../b", "..", ".", "/etc/passwd", "a//b", "a/", "", "a\\b", "..\\x", "a\nb", "a\x7f", "a\x85b",
     "\x1b[31m", "x" * 256, "é" * 128, "a/./b", "./a", "C:\\x"],
)  # fmt: skip
def test_a_name_that_could_lead_elsewhere_is_refused(live: Live, name: str) -> None:
    problem(live.create(script_content="1", input_files=["good", name]), 400, "bad_file_name")
    if name and len(name) < 256:
        problem(live.create(script_content="1", input_files=[{"name": name}]), 400, "bad_file_name")


@pytest.mark.parametrize("names", [["a", "a"], ["a", {"name": "a"}], ["a", "a/b"], ["d/e/f", "d/e"]], ids=str)
def test_two_inputs_cannot_have_one_place(live: Live, names: list[Any]) -> None:
    problem(live.create(script_content="1", input_files=names), 400, "bad_file_name")


def test_names_in_many_scripts_arrive_under_their_own_names(live: Live) -> None:
    names = [
        "plain.csv", "with blank.csv", "日本語.txt", "עברית", "تجربة.csv", "🎉🎊.bin", "ünï cödé/ñested/ü.txt",
        "e\u0301 decomposed", "\u00e9 composed", "-rf", "$(id)", "a;b&c|d", "'quoted\"", "%2e%2e", "..hidden", ".x",
        "a" * 255, "é" * 127, "folder/" + "ж" * 120, "\u202eright to left", "con", "~root", "*", "?q=1#f",
    ]  # fmt: skip
    execution = live.submit(READ_ALL, input_files=names)
    assert execution["input_files"] == names
    assert sorted(execution["upload_urls"]) == sorted(names)
    for name, address in execution["upload_urls"].items():
        assert put(address, name.encode()).status_code == 200, name
    assert complete(live, execution).status_code == 200
    ended = live.ended(execution["execution_id"])
    assert ended["status"] == "completed", ended["stderr"]
    assert json.loads(ended["stdout"]) == {name: sha256(name.encode()) for name in names}
    artifacts = live.page(f"/api/v1/executions/{ended['execution_id']}/artifacts", limit=1000)["data"]
    assert sorted(one["filename"] for one in artifacts) == sorted(names)
    assert {one["artifact_type"] for one in artifacts} == {"input"}


def test_nothing_is_claimed_before_every_input_is_there(live: Live) -> None:
    execution = live.submit("print(open('a').read() + open('b').read())", input_files=["a", "b"])
    assert (execution["status"], execution["queued_at"], execution["queue_position"]) == ("awaiting_inputs", None, None)
    assert moment(execution["inputs_deadline"]) > moment(execution["created_at"])
    put(execution["upload_urls"]["a"], b"1")
    refused = complete(live, execution)
    body = problem(refused, 409, "inputs_incomplete")
    assert [wrong["field"] for wrong in body["errors"]] == ["b"]
    assert live.get(execution["execution_id"])["status"] == "awaiting_inputs"
    put(execution["upload_urls"]["b"], b"2")
    done = complete(live, execution)
    assert (done.status_code, done.json()["status"]) == (200, "queued")
    assert live.ended(execution["execution_id"])["stdout"] == "12\n"
    again = complete(live, execution)
    assert again.status_code == 200
    assert len([event for event in live.events(execution["execution_id"]) if "verified" in event["type"]]) == 1


def test_each_address_is_for_one_object_for_an_hour(live: Live) -> None:
    execution = live.submit("1", input_files=["a"])
    listed = live.page(f"/api/v1/executions/{execution['execution_id']}/inputs")
    (one,) = listed["data"]
    assert (one["name"], one["state"], listed["pagination"]["total"]) == ("a", "pending", 1)
    rest = moment(one["upload_expires_at"]) - now()
    assert timedelta(minutes=59) < rest <= timedelta(hours=1)
    assert put(one["upload_url"], b"x").status_code == 200
    (one,) = live.page(f"/api/v1/executions/{execution['execution_id']}/inputs")["data"]
    assert one["state"] == "uploaded"
    seen = live.get(execution["execution_id"])
    assert (seen["upload_urls"], seen["inputs"][0]["state"]) == (None, "uploaded")
    assert complete(live, execution).status_code == 200
    (one,) = live.page(f"/api/v1/executions/{execution['execution_id']}/inputs")["data"]
    assert (one["state"], one["upload_url"], one["size_bytes"], one["sha256"]) == ("verified", None, 1, sha256(b"x"))


def test_an_upload_other_than_declared_is_refused_by_size_and_by_hash(live: Live) -> None:
    good = b"exactly this"
    execution = live.submit(
        "print(open('a').read())", input_files=[{"name": "a", "size_bytes": len(good), "sha256": sha256(good)}]
    )
    address = execution["upload_urls"]["a"]
    assert put(address, good + b"!").status_code in (400, 413)
    assert put(address, good[:-1]).status_code == 400
    assert put(address, b"exactly that").status_code == 400
    assert put(address, b"").status_code == 400
    problem(complete(live, execution), 409, "inputs_incomplete")
    assert put(address, good).status_code == 200
    assert complete(live, execution).status_code == 200
    assert live.ended(execution["execution_id"])["stdout"] == "exactly this\n"


def test_an_upload_of_many_megabytes_over_its_declared_size_is_refused_and_the_service_lives(live: Live) -> None:
    execution = live.submit("1", input_files=[{"name": "a", "size_bytes": 10}])
    try:
        assert put(execution["upload_urls"]["a"], b"x" * 30 * 1024 * 1024).status_code in (400, 413)
    except httpx.TransportError:
        pass  # A client that doesn't read while it sends sees the connection end.
    assert live.get(execution["execution_id"])["inputs"][0]["state"] == "pending"
    live.cancel(execution["execution_id"])


def test_a_large_upload_arrives_whole(live: Live) -> None:
    content = os.urandom(1024 * 1024) * 24 + b"end"
    script = "import hashlib; print(hashlib.sha256(open('big','rb').read()).hexdigest())"
    execution = live.submit(script, input_files=["big"])
    stored = put(execution["upload_urls"]["big"], content)
    assert stored.json() == {"sha256": sha256(content), "size_bytes": len(content)}
    assert complete(live, execution).status_code == 200
    assert live.ended(execution["execution_id"])["stdout"] == sha256(content) + "\n"


def test_an_empty_file_is_a_file(live: Live) -> None:
    execution = live.submit("import os; print(os.path.getsize('a'))", input_files=[{"name": "a", "size_bytes": 0}])
    assert put(execution["upload_urls"]["a"], b"").status_code == 200
    assert complete(live, execution).status_code == 200
    assert live.ended(execution["execution_id"])["stdout"] == "0\n"


def test_a_second_upload_replaces_the_first_until_it_is_verified(live: Live) -> None:
    execution = live.submit("print(open('a').read())", input_files=["a"])
    put(execution["upload_urls"]["a"], b"first")
    put(execution["upload_urls"]["a"], b"second")
    assert complete(live, execution).status_code == 200
    late = put(execution["upload_urls"]["a"], b"third")
    problem(late, 409, "illegal_transition")
    assert live.ended(execution["execution_id"])["stdout"] == "second\n"


def test_what_the_client_says_of_its_uploads_is_checked_too(live: Live) -> None:
    execution = live.submit("1", input_files=["a"])
    put(execution["upload_urls"]["a"], b"x")
    for said in ({"size_bytes": 2}, {"sha256": sha256(b"y")}):
        body = problem(complete(live, execution, json={"files": [{"name": "a", **said}]}), 409, "inputs_incomplete")
        assert [wrong["field"] for wrong in body["errors"]] == ["a"]
    body = problem(complete(live, execution, json={"files": [{"name": "stray"}]}), 409, "inputs_incomplete")
    assert [wrong["field"] for wrong in body["errors"]] == ["stray"]
    problem(complete(live, execution, json={"files": [{"size_bytes": 1}]}), 422, "validation_failed")
    good = {"files": [{"name": "a", "size_bytes": 1, "sha256": sha256(b"x")}]}
    assert complete(live, execution, json=good).status_code == 200


def test_completing_what_was_cancelled_is_a_conflict(live: Live) -> None:
    execution = live.submit("1", input_files=["a"])
    live.cancel(execution["execution_id"])
    problem(complete(live, execution), 409, "illegal_transition")
    problem(put(execution["upload_urls"]["a"], b"x"), 409, "illegal_transition")


def test_completing_what_has_no_inputs_changes_nothing(idle: Live) -> None:
    execution = idle.submit("1")
    assert complete(idle, execution).status_code == 200
    assert idle.get(execution["execution_id"])["version"] == execution["version"]


def test_an_address_that_was_changed_in_any_part_is_refused(live: Live) -> None:
    first = live.submit("1", input_files=[{"name": "a", "size_bytes": 1}, "b"])
    other = live.submit("1", input_files=["a"])
    address = first["upload_urls"]["a"]
    parts = urlsplit(address)
    query = dict(parse_qsl(parts.query))
    changed = [
        {**query, "size": "100"},
        {**query, "filename": "b"},
        {**query, "filename": "../../x"},
        {**query, "expires": str(int(query["expires"]) + 1)},
        {**query, "signature": "0" * 64},
        {**query, "signature": query["signature"].upper()},
        {**query, "sha256": "0" * 64},
        {name: value for name, value in query.items() if name != "size"},
        {name: value for name, value in query.items() if name != "signature"},
        {},
    ]
    for wrong in changed:
        answer = put(f"{live.url}{parts.path}?{urlencode(wrong)}", b"x")
        problem(answer, 403, "signature_invalid")
    problem(put(address.replace(first["execution_id"], other["execution_id"]), b"x"), 403, "signature_invalid")
    twice = put(f"{address}&expires={query['expires']}", b"x")
    assert twice.status_code in (403, 422)
    assert put(f"{address}&extra=1", b"x").status_code in (403, 422)
    for method in ("GET", "POST", "DELETE"):
        assert httpx.request(method, address).status_code in (401, 403, 405)
    assert live.get(first["execution_id"])["inputs"][0]["state"] == "pending"
    for execution in (first, other):
        live.cancel(execution["execution_id"])


def test_an_expired_address_is_gone(live: Live) -> None:
    execution = live.submit("1", input_files=["a"])
    grant = Grant(expires=int(time.time()) - 1, filename="a")
    address = live.signer.url(live.url, "PUT", f"/uploads/{execution['execution_id']}", grant)
    problem(put(address, b"x"), 410, "url_expired")
    wrong_way = live.signer.url(live.url, "GET", f"/uploads/{execution['execution_id']}", grant)
    problem(put(wrong_way, b"x"), 403, "signature_invalid")
    live.cancel(execution["execution_id"])


def test_inputs_that_do_not_come_in_time_fail_the_execution(idle: Live) -> None:
    execution = idle.submit("1", input_files=["a"])
    ended = idle.ended(execution["execution_id"])
    assert (ended["status"], ended["failure_reason"], ended["attempts"]) == ("failed", "input_missing", [])
    assert ended["execution_error"]
    assert ended["finalized_cost_micros"] == 0


def test_an_input_that_was_damaged_in_the_store_never_reaches_a_script(live: Live) -> None:
    execution = live.submit("print('ran')", input_files=["a"], max_retries=0)
    put(execution["upload_urls"]["a"], b"damaged later 5531")
    digest = sha256(b"damaged later 5531")
    (live.folder / "objects" / digest[:2] / digest[2:]).write_bytes(b"damaged later 5530")
    assert complete(live, execution).status_code == 200
    ended = live.ended(execution["execution_id"])
    assert (ended["status"], ended["failure_reason"]) == ("failed", "input_missing")
    assert "ran" not in (ended["stdout"] or "")
