"""Takes one request through the checks of its operation, in a fixed order, to its handler and back."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import msgspec

from rgrid.eventstore.append import Rider
from rgrid.kernel.errors import Conflict, Malformed, NotFound, RgridError, Unavailable
from rgrid.postgres.pool import GONE
from rgrid.web import conditional, idempotency
from rgrid.web.body_rules import careless
from rgrid.web.decoding import BodyDecoder, QueryDecoder, Written, raise_malformed, split_query
from rgrid.web.exchange import ASGIScope, ClientGone, Exchange, Receive, Send
from rgrid.web.operation import MEDIA_TYPES, Call, NoQuery, Operation, Reply, Streamed, query_kinds
from rgrid.web.pages import request_of
from rgrid.web.principal import ANONYMOUS, check_scope, is_open, refused, token_of
from rgrid.web.problems import MethodNotAllowed, internal, problem
from rgrid.web.site import Site

log = logging.getLogger(__name__)

EXCHANGE: Final = "rgrid.exchange"
CLIENT_GONE: Final = 499
_PAGE_NAMES: Final = frozenset({"offset", "limit", "cursor", "sort", "order"})


class Endpoint:
    """The operations of one path."""

    def __init__(self, path: str, operations: Sequence[Operation], site: Site) -> None:
        self.path = path
        self._site = site
        self._runs: dict[str, _Run] = {operation.method: _Run(operation, site) for operation in operations}
        self._allow = sorted({*self._runs, *(("HEAD",) if "GET" in self._runs else ())})

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        exchange.route = self.path
        await guarded(exchange, self._serve(exchange, scope["path_params"]))

    async def _serve(self, exchange: Exchange, path: dict[str, str]) -> None:
        method = "GET" if exchange.method == "HEAD" else exchange.method
        run = self._runs.get(method)
        if run is None:
            if not is_open(exchange.path):
                await admit(exchange, self._site)
            raise MethodNotAllowed(f"{exchange.method} is not allowed here.", allow=self._allow)
        await run(exchange, path)


async def guarded(exchange: Exchange, work: Any) -> None:
    """Awaits `work`; whatever goes wrong in it becomes a problem document."""
    try:
        await work
        return
    except ClientGone:
        # Nobody reads this status: it is for the log and the counters.
        exchange.status, exchange.detail = exchange.status or CLIENT_GONE, "client gone"
        return
    except RgridError as error:
        answer = problem(error, exchange.path, exchange.request_id)
        if answer.status >= 500:
            log.warning("%s: %s", error.code, error.detail, extra={"fields": {"request_id": exchange.request_id}})
    except GONE as error:
        log.warning(
            "a neighbour is away: %r", error, exc_info=True, extra={"fields": {"request_id": exchange.request_id}}
        )
        answer = problem(_away(error), exchange.path, exchange.request_id)
    except Exception:  # The last line of defence of a request: it is logged and answered.
        log.exception("a request failed", extra={"fields": {"request_id": exchange.request_id}})
        answer = internal(exchange.path, exchange.request_id)
    if exchange.status:
        # The answer has begun, so its status stands; breaking the connection tells the client that it isn't whole.
        raise ConnectionAbortedError("the answer broke off")
    await exchange.answer(answer)


def _away(error: Exception) -> Unavailable:
    if isinstance(error, OSError) and not isinstance(error, ConnectionError):
        return Unavailable("A part of the service is not available.")
    return Unavailable("The database is not reachable.", code="database_unavailable")


async def admit(exchange: Exchange, site: Site) -> None:
    """Finds out who is calling and takes a token of their bucket."""
    principal = await site.authenticate(token_of(exchange.scope["headers"]))
    if principal is None:
        raise refused()
    exchange.principal = principal
    exchange.allowance, over = site.limiter.take(principal.actor)
    if over is not None:
        raise over


class _Run:
    """One operation, with everything that can be prepared before the first request."""

    def __init__(self, operation: Operation, site: Site) -> None:
        self._operation = operation
        self._site = site
        self._flags = operation.flags
        self._body = None
        if operation.body not in (None, Streamed):
            assert not careless(operation.body), f"{operation.name}: {careless(operation.body)}"
            self._body = BodyDecoder(operation.body, operation.body_formats)
        self._limit = operation.body_max_bytes or site.body_max_bytes
        kinds = query_kinds(operation)
        self._query = QueryDecoder(*kinds)
        self._plain = kinds == [NoQuery]
        self._media = next((MEDIA_TYPES[kind] for kind in operation.ok.values() if isinstance(kind, str)), None)

    async def __call__(self, exchange: Exchange, path: dict[str, str]) -> None:
        operation, site = self._operation, self._site
        if operation.auth != "open":
            await admit(exchange, site)
            assert exchange.principal is not None
            check_scope(exchange.principal, operation.auth)
        if path and any("\0" in value or "\ufffd" in value for value in path.values()):
            raise NotFound("No id looks like this.")
        pairs, raw, call = await self._read(exchange, path)
        if "idem" in self._flags and site.idempotency is not None:
            key = idempotency.key_of(exchange.headers, call.body)
            if key is not None:
                await self._once(exchange, call, pairs, raw, site.idempotency, key)
                return
        if call.min_position is not None and operation.method == "GET" and site.reached is not None:
            await site.reached(call.min_position)
        await self._respond(exchange, await operation.handler(call))

    # ---------------------------------------------------------------- reading

    async def _read(self, exchange: Exchange, path: dict[str, str]) -> tuple[list[tuple[str, str]], bytes, Any]:
        headers = exchange.headers
        pairs: list[tuple[str, str]] = []
        parameters: list[Any] = [_NO_QUERY]
        wrong: Malformed | None = None
        if exchange.query_string or not self._plain:
            try:
                pairs = split_query(exchange.query_string)
                parameters = self._query.decode(pairs)
            except Malformed as malformed:
                wrong = malformed
        body, raw, written = None, b"", None
        if self._body is not None:
            raw, body, written, wrong = await self._read_body(exchange, self._body, wrong)
        if wrong is not None:
            raise wrong
        call: Call[Any, Any] = Call(
            actor=exchange.principal or ANONYMOUS,
            path=path,
            query=parameters[0],
            body=body,
            request_id=exchange.request_id,
            method=exchange.method,
            url_path=exchange.path,
            client_address=exchange.client_address,
            traceparent=headers.get("traceparent"),
            headers=headers,
            written=written,
        )
        self._fill(call, exchange, pairs, parameters)
        return pairs, raw, call

    async def _read_body(
        self, exchange: Exchange, decoder: BodyDecoder, wrong: Malformed | None
    ) -> tuple[bytes, Any, Written | None, Malformed | None]:
        raw = await exchange.read_body(self._limit)
        if not raw and "content-type" not in exchange.headers:
            if self._operation.body_optional:
                return raw, None, None, wrong
            missing = Malformed("The request has no body.", [("body", "This operation needs a JSON body.")])
            return raw, None, None, _both(wrong, missing)
        if not raw and self._operation.body_optional:
            return raw, None, None, wrong
        try:
            return raw, *decoder.read(raw, exchange.headers.get("content-type")), wrong
        except Malformed as malformed:
            return raw, None, None, _both(wrong, malformed)

    def _fill(
        self, call: Call[Any, Any], exchange: Exchange, pairs: list[tuple[str, str]], parameters: list[Any]
    ) -> None:
        """The parts of a call that only some operations have."""
        headers, flags = exchange.headers, self._flags
        if "page" in flags:
            filters = [pair for pair in pairs if pair[0] not in _PAGE_NAMES]
            call.page = request_of(parameters[1], filters, exchange.path, self._operation.order_default)
        if "as_of" in flags and parameters[-1].as_of is not None:
            call.as_of = conditional.parse_as_of(parameters[-1].as_of, self._site.now())
        if "if_match" in flags:
            call.if_match = conditional.if_match_version(headers.get("if-match"))
            call.create_only = headers.get("if-none-match", "").strip() == "*"
        if "rgrid-min-position" in headers:
            call.min_position = conditional.position_header("Rgrid-Min-Position", headers["rgrid-min-position"])
        if "last-event-id" in headers:
            call.last_event_id = conditional.position_header("Last-Event-ID", headers["last-event-id"])
        if self._operation.body is Streamed:
            call.receive_stream = lambda: exchange.stream_body(self._limit)

    # ---------------------------------------------------------------- answering

    async def _once(
        self,
        exchange: Exchange,
        call: Call[Any, Any],
        pairs: list[tuple[str, str]],
        raw: bytes,
        kept: idempotency.Idempotency,
        key: str,
    ) -> None:
        """Runs the handler unless a reply is kept under the request's key; keeps the reply if it is a 2xx."""
        slot = idempotency.Slot(call.actor.actor, exchange.method, exchange.path.rstrip("/"), key)
        asked = idempotency.request_hash(pairs, raw)
        with kept.running(slot, asked):
            reply = await kept.find(slot, asked)
            if reply is not None:
                await _replay(exchange, reply)
                return
            seat = _Seat(self, kept, slot, asked)
            call.riders = seat.riders
            try:
                done = await self._operation.handler(call)
            except Conflict as conflict:
                # Another process was faster with the same key: its reply is the reply.
                if conflict.code != idempotency.CONSTRAINT or (reply := await kept.find(slot, asked)) is None:
                    raise
                await _replay(exchange, reply)
                return
            await seat.settle(done)
        await self._respond(exchange, done, seat.sent)

    async def _respond(
        self, exchange: Exchange, reply: Reply, sent: tuple[int, list[tuple[str, str]], bytes] | None = None
    ) -> None:
        if isinstance(reply.body, AsyncIterator):
            await exchange.stream(reply.status, self._headers(reply, stored=False), reply.body)
            return
        status, headers, body = sent or self.encode(reply, reply.body)
        if reply.position:
            headers = [*headers, ("rgrid-position", str(reply.position))]
        if "etag" in self._flags and reply.etag is not None and exchange.method in ("GET", "HEAD"):
            etag = conditional.etag_of(reply.etag)
            if conditional.not_modified(exchange.headers.get("if-none-match"), etag):
                await exchange.respond(304, [("etag", etag)], b"")
                return
        await exchange.respond(status, headers, body)

    def encode(self, reply: Reply, body: Any) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and bytes of a reply, without the log position."""
        if body is None:
            return reply.status, self._headers(reply, stored=True), b""
        if isinstance(body, bytes | str):
            raw = body.encode() if isinstance(body, str) else body
            return reply.status, self._headers(reply, stored=False), raw
        return reply.status, [("content-type", "application/json"), *self._headers(reply, stored=True)], _JSON(body)

    def _headers(self, reply: Reply, *, stored: bool) -> list[tuple[str, str]]:
        headers = [(name.lower(), value) for name, value in reply.headers]
        if not stored:
            headers.append(("content-type", reply.media_type or self._media or MEDIA_TYPES["binary"]))
        if reply.etag is not None and reply.as_of_position is None:
            headers.append(("etag", conditional.etag_of(reply.etag)))
        if reply.as_of_position is not None:
            headers.append(("rgrid-as-of-position", str(reply.as_of_position)))
        if reply.location is not None:
            headers.append(("location", quote(reply.location, safe="/:?&=%@+,;~")))
        return headers


class _Seat:
    """The reply of one idempotent request, encoded once: what is kept is what is sent."""

    def __init__(self, run: _Run, kept: idempotency.Idempotency, slot: idempotency.Slot, asked: bytes) -> None:
        self._run = run
        self._kept = kept
        self._slot = slot
        self._asked = asked
        self._rode = False
        self.sent: tuple[int, list[tuple[str, str]], bytes] | None = None

    def riders(self, reply: Reply) -> tuple[Rider, ...]:
        self._rode = True
        self.sent = self._run.encode(reply, reply.body)
        status, headers, body = self.sent if reply.stored is None else self._run.encode(reply, reply.stored)
        return (self._kept.rider(self._slot, self._asked, status, headers, body),)

    async def settle(self, reply: Reply) -> None:
        """Keeps the reply of a request that wrote no events: nothing was there for it to ride on."""
        if self._rode and reply.position:
            return
        self.sent = None
        if not 200 <= reply.status < 300 or isinstance(reply.body, AsyncIterator):
            return
        body = reply.body if reply.stored is None else reply.stored
        status, headers, raw = self._run.encode(reply, body)
        kept = idempotency.KeptReply(self._asked, status, headers, raw, reply.position or 0)
        await self._kept.keep(self._slot, kept)


_NO_QUERY: Final = NoQuery()
_JSON: Final = msgspec.json.Encoder().encode


def _both(first: Malformed | None, second: Malformed) -> Malformed:
    if first is None:
        return second
    try:
        raise_malformed([*first.fields, *second.fields], code=first.code)
    except Malformed as both:
        return both


async def _replay(exchange: Exchange, reply: idempotency.KeptReply) -> None:
    headers = [*reply.headers, ("idempotency-replayed", "true")]
    if reply.position:
        headers.append(("rgrid-position", str(reply.position)))
    await exchange.respond(reply.status, headers, reply.body)


def templates(operations: Sequence[Operation]) -> Mapping[str, list[Operation]]:
    """The operations by path, each method once."""
    by_path: dict[str, list[Operation]] = {}
    for operation in operations:
        others = by_path.setdefault(operation.path, [])
        assert all(other.method != operation.method for other in others), f"{operation.name} is declared twice"
        others.append(operation)
    return by_path
