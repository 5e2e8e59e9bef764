"""Requests that fail on the way: what is tried again, with what, and what is given up at once."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rgrid.client.problems import Refused, Unreachable
from rgrid.client.transport import Transport

NO_WAITS = (0.0, 0.0, 0.0, 0.0, 0.0)


class Answers(http.server.ThreadingHTTPServer):
    """An HTTP server that gives prepared answers in turn, the last one for ever, and remembers what it was asked.
    `None` cuts the connection instead."""

    def __init__(self, *answers: tuple[int, dict[str, str], bytes] | None) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str | None, bytes]] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Answers

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((f"{self.command} {self.path}", self.headers.get("Idempotency-Key"), body))
        answer = self.server.answers[0]
        if len(self.server.answers) > 1:
            self.server.answers.pop(0)
        if answer is None:
            self.close_connection = True
            return
        status, headers, content = answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """The test's output stays quiet."""


@contextmanager
def answering(*answers: tuple[int, dict[str, str], bytes] | None) -> Iterator[tuple[Answers, Transport, list[float]]]:
    server = Answers(*answers)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    waited: list[float] = []
    transport = Transport(
        f"http://127.0.0.1:{server.server_port}",
        "key",
        on_retry=lambda _, wait_s: waited.append(wait_s),
        waits_s=NO_WAITS,
    )
    try:
        yield server, transport, waited
    finally:
        transport.close()
        server.shutdown()
        server.server_close()


OK = (200, {}, b"{}")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_post_is_repeated_with_the_same_idempotency_key(status: int) -> None:
    with answering((status, {}, b""), (status, {}, b""), OK) as (server, transport, waited):
        assert transport.call("POST", "/x", body={"a": 1}).status == 200
        assert len(waited) == 2
        keys = {key for _, key, _ in server.asked}
        assert len(keys) == 1
        assert None not in keys
        assert {body for _, _, body in server.asked} == {b'{"a":1}'}


def test_two_posts_have_two_keys() -> None:
    with answering(OK) as (server, transport, _):
        transport.call("POST", "/x")
        transport.call("POST", "/x")
        assert len({key for _, key, _ in server.asked}) == 2


def test_a_cut_connection_is_tried_again() -> None:
    with answering(None, None, OK) as (server, transport, _):
        assert transport.call("POST", "/x", body={}).status == 200
        assert len({key for _, key, _ in server.asked}) == 1


def test_retry_after_wins_over_our_own_waiting() -> None:
    with answering((503, {"Retry-After": "0.01"}, b""), OK) as (_, transport, waited):
        transport.call("POST", "/x")
        assert waited == [0.01]


def test_after_six_times_the_last_answer_is_the_failure() -> None:
    with answering((503, {"X-Request-ID": "req-1"}, b"")) as (server, transport, _):
        with pytest.raises(Refused) as refused:
            transport.call("POST", "/x")
        assert len(server.asked) == 1 + len(NO_WAITS)
        assert refused.value.request_id == "req-1"


def test_our_own_request_that_is_still_running_is_waited_for() -> None:
    running = b'{"status":409,"code":"idempotency_in_progress","detail":"Still running."}'
    with answering((409, {"Retry-After": "0"}, running), OK) as (server, transport, _):
        transport.call("POST", "/x")
        assert len(server.asked) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 500])
def test_an_answer_that_would_be_the_same_again_is_not_asked_for_again(status: int) -> None:
    with answering((status, {}, b'{"detail":"No.","code":"because","request_id":"r","limit":5}')) as (
        server,
        transport,
        _,
    ):
        with pytest.raises(Refused, match=r"No\.") as refused:
            transport.call("POST", "/x")
        assert len(server.asked) == 1
        assert (refused.value.status, refused.value.code, refused.value.members) == (status, "because", {"limit": 5})


def test_a_deletion_never_goes_out_on_a_connection_that_may_be_stale() -> None:
    with answering(OK) as (server, transport, _):
        transport.call("GET", "/x")
        transport.call("DELETE", "/x")
        assert [line for line, _, _ in server.asked] == ["GET /x", "DELETE /x"]


def test_where_nothing_listens_reading_fails_at_once_and_writing_is_tried_again() -> None:
    waited: list[float] = []
    nowhere = Transport("http://127.0.0.1:1", None, on_retry=lambda _, wait_s: waited.append(wait_s), waits_s=NO_WAITS)
    with pytest.raises(Unreachable, match="connection refused"):
        nowhere.call("GET", "/x")
    assert waited == []
    with pytest.raises(Unreachable):
        nowhere.call("POST", "/x")
    assert len(waited) == len(NO_WAITS)


def test_query_values_that_are_none_are_left_out() -> None:
    with answering(OK) as (server, transport, _):
        transport.call("GET", "/x", query={"a": None, "b": True, "metadata[k.1]": "v&w"})
        assert server.asked[0][0] == "GET /x?b=true&metadata%5Bk.1%5D=v%26w"
