"""Made-up changes to what opens a door by itself: lease tokens, signed addresses and the WebSocket's address. None of
them opens anything, none is answered with a fault, and the service goes on."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import httpx
import pytest
from api.one_service import JSON, KEY, Live
from hypothesis import HealthCheck, assume, settings
from hypothesis import given as for_all
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

EXAMPLES = settings(
    max_examples=60, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
URL_SAFE = st.characters(codec="ascii", categories=("L", "N"), include_characters="-_.~")
REFUSALS = {400, 401, 403, 404, 405, 409, 410, 413, 422}
SOCKET_REFUSALS = {4400, 4401, 4403, 4404}
LINE = b'{"lines":[{"sequence_number":900001,"stream":"stdout","message":"forged"}]}'


@st.composite
def changed(draw: st.DrawFn, text: str) -> str:
    """The text with something taken out, put in, or put in another's place."""
    start = draw(st.integers(0, len(text) - 1))
    end = draw(st.integers(start, min(len(text), start + 8)))
    result = text[:start] + draw(st.text(URL_SAFE, max_size=8)) + text[end:]
    assume(result != text)
    return result


@pytest.fixture(scope="module")
def goes_on(live: Live, idle: Live) -> Iterator[None]:
    """Afterwards both services are well, and neither has met a fault."""
    yield
    for one in (live, idle):
        assert one.http.get("/api/v1/health").status_code == 200
        assert '"level":"error"' not in (one.folder.parent / "service.log").read_text()


@pytest.fixture(scope="module")
def running(live: Live) -> Iterator[dict[str, Any]]:
    execution = live.started("import time\nprint('on', flush=True)\ntime.sleep(120)")
    yield execution
    live.stop(execution["execution_id"])


def test_a_changed_lease_token_stores_no_line(live: Live, running: dict[str, Any], goes_on: None) -> None:
    token = live.lease_token(running)
    path = f"/api/v1/executions/{running['execution_id']}/logs/stream"

    @EXAMPLES
    @for_all(st.one_of(changed(token), st.text(URL_SAFE, min_size=1, max_size=200)))
    def check(forged: str) -> None:
        answer = live.call("POST", path, forged, content=LINE, headers=JSON)
        assert answer.status_code in REFUSALS, answer.text
        assert answer.headers["content-type"] == "application/problem+json"

    check()
    lines = live.page(f"/api/v1/executions/{running['execution_id']}/logs", limit=1000)["data"]
    assert not [line for line in lines if line["message"] == "forged"]


def test_a_token_for_what_is_no_attempt_stores_no_line(live: Live, running: dict[str, Any], goes_on: None) -> None:
    other = live.run("print('over')")
    numbers = st.integers(0, 2**31)

    @EXAMPLES
    @for_all(numbers, numbers, st.sampled_from([running, other]), st.sampled_from([running, other]))
    def check(attempt: int, fencing_token: int, whose: dict[str, Any], where: dict[str, Any]) -> None:
        assume((attempt, fencing_token) != (1, 1))
        token = live.lease_token(whose, attempt=attempt, fencing_token=fencing_token)
        path = f"/api/v1/executions/{where['execution_id']}/logs/stream"
        answer = live.call("POST", path, token, content=LINE, headers=JSON)
        assert answer.status_code in REFUSALS, (attempt, fencing_token, answer.text)

    check()


def means_the_same(one: str, other: str) -> bool:
    """Whether two addresses differ in their writing only."""
    first, second = urlsplit(one), urlsplit(other)
    return first.path == second.path and sorted(parse_qsl(first.query)) == sorted(parse_qsl(second.query))


@st.composite
def address(draw: st.DrawFn, url: str) -> str:
    """A signed address with a change in its path, its query, or among its parameters."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query)
    match draw(st.sampled_from(["path", "query", "drop", "repeat", "add"])):
        case "path":
            return urlunsplit(parts._replace(path="/" + quote(draw(changed(parts.path.lstrip("/"))), safe="/")))
        case "query":
            return urlunsplit(parts._replace(query=quote(draw(changed(parts.query)), safe="=&%+-_.~")))
        case "drop":
            pairs.pop(draw(st.integers(0, len(pairs) - 1)))
        case "repeat":
            pairs.append((draw(st.sampled_from(pairs))[0], draw(st.text(URL_SAFE, max_size=8))))
        case "add":
            pairs.append((draw(st.text(URL_SAFE, min_size=1, max_size=8)), draw(st.text(URL_SAFE, max_size=8))))
    return urlunsplit(parts._replace(query=urlencode(pairs)))


def test_a_changed_address_downloads_nothing(live: Live, finished: dict[str, Any], goes_on: None) -> None:
    url = finished["download_urls"]["out.txt"]
    assert httpx.get(url).content == b"made"

    @EXAMPLES
    @for_all(address(url), st.sampled_from(["GET", "GET", "GET", "PUT", "POST", "DELETE", "PATCH"]))
    def check(forged: str, method: str) -> None:
        assume(not means_the_same(url, forged))
        answer = httpx.request(method, forged)
        assert answer.status_code in REFUSALS, (forged, answer.text)
        assert answer.content != b"made"

    check()
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        assert httpx.request(method, url).status_code in (401, 403, 404, 405)
    assert httpx.get(url).content == b"made"


def test_a_changed_address_uploads_nothing(live: Live, goes_on: None) -> None:
    execution = live.submit("print(1)", input_files=[{"name": "in.txt", "size_bytes": 6}])
    url = execution["upload_urls"]["in.txt"]

    @EXAMPLES
    @for_all(address(url))
    def check(forged: str) -> None:
        assume(not means_the_same(url, forged))
        answer = httpx.put(forged, content=b"forged")
        assert answer.status_code in REFUSALS, (forged, answer.text)

    check()
    inputs = live.page(f"/api/v1/executions/{execution['execution_id']}/inputs")["data"]
    assert [one["state"] for one in inputs] == ["pending"]
    live.stop(execution["execution_id"])


def test_made_up_socket_addresses_are_closed_with_a_reason(live: Live, finished: dict[str, Any], goes_on: None) -> None:
    execution_id = finished["execution_id"]
    words = st.text(URL_SAFE, max_size=12)
    queries = st.lists(
        st.tuples(
            st.sampled_from(["cursor", "stream", "token", "tail", "x"]),
            st.one_of(words, st.integers(-5, 2**70).map(str), st.sampled_from(["stdout", "stderr", "-1", "0"])),
        ),
        max_size=4,
    )
    names = st.one_of(st.just(execution_id), changed(execution_id), words.filter(bool))

    @EXAMPLES
    @for_all(names, queries, st.sampled_from([KEY, None, "sk_live_" + "0" * 43]))
    def check(name: str, query: list[tuple[str, str]], secret: str | None) -> None:
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        url = f"ws{live.url[4:]}/ws/executions/{quote(name, safe='')}/logs?{urlencode(query)}"
        seen: list[str | bytes] = []
        try:
            with connect(url, additional_headers=headers, proxy=None) as socket:
                try:
                    while True:
                        seen.append(socket.recv(20))
                except ConnectionClosed:
                    code = socket.close_code
        except InvalidStatus as refused:
            assert refused.response.status_code in (403, 404), url
            return
        if code == 1000:
            assert secret == KEY, url
            assert name == execution_id, url
        else:
            assert code in SOCKET_REFUSALS, (url, code)
            assert len(seen) <= 1, "nothing is sent before the check but why it was refused"

    check()
