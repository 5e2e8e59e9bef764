"""Artifacts: what a script leaves behind, listed once it is stored, fetched under a signed address."""

import hashlib
import time
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from api.one_service import Live, moment, problem

from rgrid.adapters.signing import Grant

PATH = "/api/v1/artifacts"


def artifacts(live: Live, execution: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    listed = live.page(f"/api/v1/executions/{execution['execution_id']}/artifacts", limit=1000, **query)
    rows: list[dict[str, Any]] = listed["data"]
    return rows


def address(live: Live, **asked: Any) -> httpx.Response:
    return live.http.post(f"{PATH}/download-url", json=asked)


@pytest.fixture(scope="module")
def output(live: Live, finished: dict[str, Any]) -> dict[str, Any]:
    (row,) = artifacts(live, finished, artifact_type="output")
    return row


def test_new_and_changed_files_become_outputs_and_nothing_else(live: Live) -> None:
    script = (
        "import os\n"
        "open('new.csv','w').write('1,2')\n"
        "open('changed.txt','a').write(' more')\n"
        "os.makedirs('deep/er'); open('deep/er/ünï.json','w').write('{}')\n"
        "open('empty','w')\n"
        "os.symlink('/etc/passwd','link'); os.mkfifo('pipe'); os.makedirs('hollow')\n"
        "import socket; s = socket.socket(socket.AF_UNIX); s.bind('sock')\n"
    )
    execution = live.submit(script, input_files=["same.txt", "changed.txt"])
    for name, url in execution["upload_urls"].items():
        httpx.put(url, content=name.encode())
    live.http.post(f"/api/v1/executions/{execution['execution_id']}/inputs/complete")
    ended = live.ended(execution["execution_id"])
    assert ended["status"] == "completed", ended["stderr"]
    outputs = {row["filename"]: row for row in artifacts(live, ended, artifact_type="output")}
    assert sorted(outputs) == ["changed.txt", "deep/er/ünï.json", "empty", "new.csv"]
    assert outputs["new.csv"]["content_type"] == "text/csv"
    assert outputs["deep/er/ünï.json"]["content_type"] == "application/json"
    assert outputs["empty"]["content_type"] == "application/octet-stream"
    assert outputs["empty"]["size_bytes"] == 0
    assert outputs["changed.txt"]["sha256"] == hashlib.sha256(b"changed.txt more").hexdigest()
    inputs = {row["filename"] for row in artifacts(live, ended, artifact_type="input")}
    assert inputs == {"same.txt", "changed.txt"}
    assert sorted(ended["download_urls"]) == sorted(outputs)
    for name, url in ended["download_urls"].items():
        content = httpx.get(url).content
        assert hashlib.sha256(content).hexdigest() == outputs[name]["sha256"]


def test_too_many_files_are_dropped_and_named(live: Live) -> None:
    ended = live.run("for n in range(1005): open(f'f{n:04}','w').write('x')")
    assert ended["status"] == "completed"
    assert live.page(f"/api/v1/executions/{ended['execution_id']}/artifacts")["pagination"]["total"] == 1000
    assert "f1004" in ended["execution_metadata"]["outputs_dropped"]


def test_an_artifact_is_shown_in_full_and_by_itself(live: Live, finished: dict[str, Any], output: Any) -> None:
    assert output == {
        "artifact_id": output["artifact_id"],
        "execution_id": finished["execution_id"],
        "artifact_type": "output",
        "filename": "out.txt",
        "file_path": f"objects/{hashlib.sha256(b'made').hexdigest()}",
        "size_bytes": 4,
        "content_type": "text/plain",
        "sha256": hashlib.sha256(b"made").hexdigest(),
        "compressed": False,
        "created_at": output["created_at"],
        "expires_at": finished["expires_at"],
        "expired": False,
    }
    alone = live.http.get(f"{PATH}/{output['artifact_id']}")
    assert alone.json() == output
    known = live.http.get(f"{PATH}/{output['artifact_id']}", headers={"if-none-match": alone.headers["etag"]})
    assert known.status_code == 304
    lifetime = moment(output["expires_at"]) - moment(finished["completed_at"])
    assert lifetime.days == 30


@pytest.mark.parametrize("by", ["artifact_id", "s3_key"])
def test_a_signed_address_gives_the_bytes_without_credentials(live: Live, output: Any, by: str) -> None:
    wanted = output["artifact_id"] if by == "artifact_id" else output["file_path"]
    answer = address(live, **{by: wanted}, expires_in=60)
    assert answer.status_code == 200, answer.text
    signed = answer.json()
    assert (signed["filename"], signed["size_bytes"], signed["sha256"]) == ("out.txt", 4, output["sha256"])
    assert 0 < moment(signed["expires_at"]).timestamp() - time.time() <= 60
    fetched = httpx.get(signed["download_url"])
    assert (fetched.status_code, fetched.content) == (200, b"made")
    assert fetched.headers["content-disposition"].startswith("attachment;")
    assert fetched.headers["content-type"].startswith("text/plain")
    assert fetched.headers["x-content-type-options"] == "nosniff"
    head = httpx.head(signed["download_url"])
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "4")


def test_a_file_name_cannot_break_out_of_its_header(live: Live) -> None:
    odd = 'a"; filename=evil.exe; é\r\n日本.html'
    ended = live.run(f"open({odd!r}, 'w').write('<script>')")
    rows = artifacts(live, ended)
    if not rows:  # a worker may also drop such a name, if it says so
        assert ended["execution_metadata"]["outputs_dropped"]
        return
    url = address(live, artifact_id=rows[0]["artifact_id"]).json()["download_url"]
    header = httpx.get(url).headers["content-disposition"]
    assert header.count('"') == 2
    assert "\r" not in header
    assert header.startswith("attachment")


@pytest.mark.parametrize("asked", [{}, {"artifact_id": "a", "s3_key": "b"}, {"artifact_id": None, "s3_key": None}])
def test_exactly_one_way_to_name_the_artifact(live: Live, asked: dict[str, Any]) -> None:
    problem(address(live, **asked), 400, "invalid")


@pytest.mark.parametrize("seconds", [59, 0, -1, 86_401, 2**63, 60.5, "60"])
def test_an_expiry_out_of_bounds_is_422(live: Live, output: Any, seconds: Any) -> None:
    problem(address(live, artifact_id=output["artifact_id"], expires_in=seconds), 422, "validation_failed")


@pytest.mark.parametrize(
    "key",
    ["", "/", "objects/", "objects/" + "0" * 64, "../encryption.key", "objects/../../encryption.key", "encryption.key",
     "file:///etc/passwd", "objects\\x", "é" * 1000, "s3://bucket/key"],
)  # fmt: skip
def test_no_object_but_a_known_artifact_can_be_signed(live: Live, finished: dict[str, Any], key: str) -> None:
    problem(address(live, s3_key=key), 404, "not_found")
    script = f"objects/{finished['script_sha256']}"
    problem(address(live, s3_key=script), 404, "not_found")


@pytest.mark.parametrize(
    "odd", ["x", "art_", "art_01JB2Z4M7K8P9Q0R1S2T3V4W5X", "%00", "a" * 10_000, "exec_1", "%2e%2e"]
)
def test_an_unknown_artifact_is_404(live: Live, odd: str) -> None:
    problem(live.http.get(f"{PATH}/{odd}"), 404, "not_found")
    if "%" not in odd:
        problem(address(live, artifact_id=odd), 404, "not_found")


def test_the_fixed_segment_wins_over_an_id(live: Live) -> None:
    assert live.http.get(f"{PATH}/download-url").status_code == 405


def test_an_address_that_was_changed_is_refused(live: Live, finished: dict[str, Any], output: Any) -> None:
    url = address(live, artifact_id=output["artifact_id"]).json()["download_url"]
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    for wrong in (
        {**query, "expires": str(int(query["expires"]) + 86_400)},
        {**query, "filename": "evil.exe"},
        {**query, "signature": "f" * 64},
        {name: value for name, value in query.items() if name != "signature"},
        {},
    ):
        problem(httpx.get(f"{live.url}{parts.path}?{urlencode(wrong)}"), 403, "signature_invalid")
    (other,) = artifacts(live, finished, artifact_type="input")
    problem(httpx.get(url.replace(output["artifact_id"], other["artifact_id"])), 403, "signature_invalid")
    for method in ("PUT", "POST", "DELETE"):
        assert httpx.request(method, url).status_code in (401, 403, 405)


def test_an_expired_address_is_gone_and_one_for_another_method_is_no_use(live: Live, output: Any) -> None:
    path = f"/downloads/{output['artifact_id']}"
    past = Grant(expires=int(time.time()) - 1, filename="out.txt")
    problem(httpx.get(live.signer.url(live.url, "GET", path, past)), 410, "url_expired")
    future = Grant(expires=int(time.time()) + 60, filename="out.txt")
    problem(httpx.get(live.signer.url(live.url, "PUT", path, future)), 403, "signature_invalid")


def test_artifacts_and_logs_of_an_unknown_execution_are_404(live: Live) -> None:
    unknown = "/api/v1/executions/exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X"
    for sub in ("artifacts", "logs", "inputs", "events"):
        problem(live.http.get(f"{unknown}/{sub}"), 404, "not_found")


def test_an_output_whose_object_is_gone_is_gone_and_never_an_empty_file(live: Live) -> None:
    ended = live.run("open('lost.txt','w').write('will be lost 7713')")
    (row,) = artifacts(live, ended)
    (live.folder / "objects" / row["sha256"][:2] / row["sha256"][2:]).unlink()
    problem(httpx.get(ended["download_urls"]["lost.txt"]), 410, "artifact_expired")


def test_lists_of_artifacts_page_and_filter(live: Live, finished: dict[str, Any]) -> None:
    path = f"/api/v1/executions/{finished['execution_id']}/artifacts"
    first = live.page(path, limit=1)
    second = live.page(path, limit=1, cursor=first["pagination"]["next_cursor"])
    assert first["pagination"]["total"] == second["pagination"]["total"] == 2
    assert [row["filename"] for row in first["data"] + second["data"]] == ["out.txt", "in.txt"]
    problem(live.http.get(path, params={"artifact_type": "script"}), 422, "validation_failed")
