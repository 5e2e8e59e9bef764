"""Following a log over a WebSocket: history, live lines, every change of status, the end; and who may listen."""

import json
import time
from contextlib import ExitStack
from typing import Any

import pytest
from api.one_service import Live
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

SLOW = "import time\nfor n in range({}):\n    print('line', n, flush=True); time.sleep({})\n"


def frames(socket: ClientConnection, count: int | None = None) -> list[dict[str, Any]]:
    """The frames until the close, or so many of them."""
    seen: list[dict[str, Any]] = []
    try:
        while count is None or len(seen) < count:
            seen.append(json.loads(socket.recv(30)))
    except ConnectionClosed:
        pass
    return seen


def closed(socket: ClientConnection) -> int | None:
    frames(socket)
    return socket.close_code


def of_type(seen: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [frame for frame in seen if frame["type"] == kind]


def refused(socket: ClientConnection, code: int) -> dict[str, Any]:
    """The one frame of a session that was closed with this code."""
    (said,) = frames(socket)
    assert said["type"] == "error"
    assert said["error"]
    assert socket.close_code == code
    return said


def ticket(live: Live, execution_id: str, secret: str | None = None) -> str:
    body = {"execution_id": execution_id}
    path = "/api/v1/ws-tickets"
    answer = live.call("POST", path, secret, json=body) if secret else live.http.post(path, json=body)
    assert answer.status_code == 201, answer.text
    text: str = answer.json()["ticket"]
    return text


@pytest.fixture(scope="module")
def ended(live: Live) -> dict[str, Any]:
    """Five lines on stdout and one on stderr, exit code 3."""
    script = "import sys\nfor n in range(5): print(n, flush=True)\nprint('e', file=sys.stderr)\nsys.exit(3)"
    return live.run(script)


def test_a_finished_execution_gives_its_history_and_how_it_ended(live: Live, ended: dict[str, Any]) -> None:
    with live.follow(ended["execution_id"]) as socket:
        seen = frames(socket)
    listed = live.page(f"/api/v1/executions/{ended['execution_id']}/logs")["data"]
    assert [{name: frame[name] for name in frame if name != "type"} for frame in seen[:-1]] == listed
    assert {frame["type"] for frame in seen[:-1]} == {"log"}
    assert seen[-1] == {
        "type": "complete",
        "execution_id": ended["execution_id"],
        "status": "failed",
        "exit_code": 3,
        "failure_reason": "exit_code",
        "last_sequence_number": 5,
    }
    assert (socket.close_code, socket.close_reason) == (1000, "done")


def test_lines_come_live_between_changes_of_status_and_the_end(live: Live) -> None:
    submitted_at = time.monotonic()
    execution_id = live.submit(SLOW.format(3, 0.4))["execution_id"]
    with live.follow(execution_id) as socket:
        seen, at = [], []
        while not seen or seen[-1]["type"] != "complete":
            seen.append(json.loads(socket.recv(30)))
            at.append(time.monotonic() - submitted_at)
        assert closed(socket) == 1000
    assert [frame["sequence_number"] for frame in of_type(seen, "log")] == [0, 1, 2]
    assert [(frame["status"], frame["attempt"]) for frame in of_type(seen, "status")][-1] == ("running", 1)
    assert seen[-1]["status"] == "completed"
    first = next(at[n] for n, frame in enumerate(seen) if frame["type"] == "log")
    assert first < at[-1]  # lines did not wait for the end


def test_every_change_of_status_is_told_once_and_in_order(live: Live) -> None:
    execution_id = live.submit("print(open('a').read())", input_files=["a"])["execution_id"]
    with live.follow(execution_id) as socket:
        (first,) = frames(socket, 1)
        assert (first["type"], first["status"], first["attempt"]) == ("status", "awaiting_inputs", 1)
        address = live.get(execution_id)["upload_urls"]["a"]
        live.http.put(address, content=b"given")
        live.http.post(f"/api/v1/executions/{execution_id}/inputs/complete")
        seen = frames(socket)
    assert [frame["status"] for frame in of_type(seen, "status")] == ["queued", "running"]
    kinds = [frame["type"] for frame in seen]
    assert kinds == ["status", "status", "log", "complete"]


def test_a_cursor_gives_exactly_the_rest(live: Live, ended: dict[str, Any]) -> None:
    for cursor in (-1, 0, 3, 4, 5, 500):
        with live.follow(ended["execution_id"], f"?cursor={cursor}") as socket:
            seen = frames(socket)
        assert [frame["sequence_number"] for frame in of_type(seen, "log")] == list(range(cursor + 1, 6))
        assert seen[-1]["type"] == "complete"


def test_a_follower_that_comes_back_again_and_again_misses_and_repeats_nothing(live: Live) -> None:
    execution_id = live.submit(SLOW.format(40, 0.02))["execution_id"]
    seen: list[int] = []
    done = False
    while not done:
        cursor = seen[-1] if seen else -1
        with live.follow(execution_id, f"?cursor={cursor}") as socket:
            some = frames(socket, 6)
            seen += [frame["sequence_number"] for frame in of_type(some, "log")]
            done = bool(of_type(some, "complete"))
    assert seen == list(range(40))


def test_a_long_history_comes_whole_before_what_is_live(live: Live) -> None:
    script = "for n in range(5000): print(n)\nimport time; print('now', flush=True); time.sleep(60)"
    execution_id = live.submit(script)["execution_id"]
    live.until(execution_id, lambda seen: (seen["stdout"] or "").endswith("now\n"))
    with live.follow(execution_id) as socket:
        seen = frames(socket, 5002)
        assert [frame["type"] for frame in seen] == ["log"] * 5001 + ["status"]
        assert [frame["sequence_number"] for frame in seen[:-1]] == list(range(5001))
        live.cancel(execution_id)
        assert frames(socket)[-1]["status"] == "cancelled"
    assert socket.close_code == 1000


def test_one_stream_can_be_followed_alone(live: Live, ended: dict[str, Any]) -> None:
    with live.follow(ended["execution_id"], "?stream=stderr") as socket:
        seen = frames(socket)
    assert [frame["message"] for frame in of_type(seen, "log")] == ["e"]
    assert seen[-1]["last_sequence_number"] == 5


def test_several_followers_see_the_same(live: Live) -> None:
    execution_id = live.submit(SLOW.format(10, 0.05))["execution_id"]
    with ExitStack() as stack:
        sockets = [stack.enter_context(live.follow(execution_id)) for _ in range(5)]
        logs = [of_type(frames(socket), "log") for socket in sockets]
    assert all(one == logs[0] for one in logs)
    assert len(logs[0]) == 10


@pytest.mark.parametrize(
    "query",
    ["?cursor=x", "?cursor=-2", "?cursor=1.5", "?cursor=" + "9" * 25, "?stream=both", "?stream=STDOUT", "?unknown=1",
     "?cursor=1&cursor=2", "?cursor=%00", "?cursor="],
)  # fmt: skip
def test_a_bad_parameter_is_4400(live: Live, ended: dict[str, Any], query: str) -> None:
    with live.follow(ended["execution_id"], query) as socket:
        refused(socket, 4400)


@pytest.mark.parametrize("odd", ["x", "exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X", "art_01JB2Z4M7K8P9Q0R1S2T3V4W5X", "%00", "é"])
def test_an_unknown_execution_is_4404_for_those_who_may_ask(live: Live, odd: str) -> None:
    with live.follow(odd) as socket:
        refused(socket, 4404)
    with live.follow(odd, secret=None) as socket:
        refused(socket, 4401)


def test_without_good_credentials_nothing_is_said(live: Live, ended: dict[str, Any]) -> None:
    execution_id = ended["execution_id"]
    for secret in (None, "sk_live_" + "0" * 43, "nonsense"):
        with live.follow(execution_id, secret=secret) as socket:
            refused(socket, 4401)
    for token in (live.key("read"), "wst_" + "0" * 43, "", "x" * 7000):
        with live.follow(execution_id, f"?token={token}", secret=None) as socket:
            refused(socket, 4401)
    with live.follow(execution_id, "?cursor=x", secret=None) as socket:
        refused(socket, 4401)


def test_a_lease_token_listens_to_nothing(live: Live, ended: dict[str, Any]) -> None:
    with live.follow(ended["execution_id"], secret=live.lease_token(ended)) as socket:
        refused(socket, 4403)


def test_a_key_that_may_read_may_listen_in_either_header(live: Live, ended: dict[str, Any]) -> None:
    secret = live.key("read")
    with live.follow(ended["execution_id"], secret=secret) as socket:
        assert frames(socket)[-1]["type"] == "complete"
    address = f"ws{live.url[4:]}/ws/executions/{ended['execution_id']}/logs"
    with connect(address, additional_headers={"X-API-Key": secret}) as socket:
        assert frames(socket)[-1]["type"] == "complete"


def test_a_ticket_works_once_for_its_execution(live: Live, ended: dict[str, Any]) -> None:
    execution_id = ended["execution_id"]
    other = live.run("print('other')")["execution_id"]
    token = ticket(live, execution_id)
    with live.follow(other, f"?token={token}", secret=None) as socket:
        refused(socket, 4401)
    with live.follow(execution_id, f"?token={token}&cursor=3", secret=None) as socket:
        assert [frame["sequence_number"] for frame in of_type(frames(socket), "log")] == [4, 5]
    with live.follow(execution_id, f"?token={token}", secret=None) as socket:
        refused(socket, 4401)


def test_a_ticket_of_a_revoked_key_opens_nothing(live: Live, ended: dict[str, Any]) -> None:
    secret = live.key("read")
    token = ticket(live, ended["execution_id"], secret)
    key_id = live.call("GET", "/api/v1/me", secret).json()["key_id"]
    assert live.http.delete(f"/api/v1/keys/{key_id}").status_code == 200
    with live.follow(ended["execution_id"], f"?token={token}", secret=None) as socket:
        refused(socket, 4401)


def test_small_client_frames_are_ignored_and_large_ones_end_the_session(live: Live) -> None:
    execution_id = live.started("import time; print('on', flush=True); time.sleep(60)")["execution_id"]
    with live.follow(execution_id) as socket:
        for said in ("hello", b"\x00\xff", "x" * 4096, json.dumps({"type": "log"})):
            socket.send(said)
        assert [frame["type"] for frame in frames(socket, 2)] == ["log", "status"]
        socket.send("x" * 4097)
        assert closed(socket) == 1009
    with live.follow(execution_id) as socket:
        socket.send("x" * 200_000)
        assert closed(socket) == 1009
    live.stop(execution_id)


def test_plain_http_is_told_that_this_path_speaks_websocket(live: Live, ended: dict[str, Any]) -> None:
    path = f"/ws/executions/{ended['execution_id']}/logs"
    assert live.http.get(path).status_code == 404
    assert live.call("GET", path, None).status_code == 401
    with connect(f"ws{live.url[4:]}/ws/nowhere") as socket:
        assert closed(socket) == 4404
