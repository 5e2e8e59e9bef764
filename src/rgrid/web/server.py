"""Puts operations and WebSockets together into one ASGI application."""

from collections.abc import Mapping, Sequence
from typing import Final

from rgrid.kernel.clock import monotonic_ms
from rgrid.kernel.errors import NotFound, RgridError
from rgrid.web.access_log import log_exchange
from rgrid.web.docs import own_operations
from rgrid.web.endpoint import EXCHANGE, Endpoint, admit, guarded, templates
from rgrid.web.exchange import App, ASGIScope, Exchange, Receive, Send
from rgrid.web.operation import Operation
from rgrid.web.principal import is_open
from rgrid.web.routes import Routes
from rgrid.web.site import Site

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CORS_MAX_AGE_S: Final = 600


def build(operations: Sequence[Operation], site: Site, websockets: Mapping[str, App] | None = None) -> App:
    """The application: the given operations and WebSocket handlers, beside those every service has (health, metrics,
    the interface document and its page)."""
    routes: Routes[App] = Routes()
    for path, group in templates([*operations, *own_operations(operations, site)]).items():
        routes.add(path, Endpoint(path, group, site))
    for path, socket in (websockets or {}).items():
        routes.add(path, _Socket(path, socket, site))
    return Front(routes, site)


class Front:
    """The outermost layer: gives each request its exchange, finds its endpoint, and sees how it ends."""

    def __init__(self, routes: Routes[App], site: Site) -> None:
        self._routes = routes
        self._site = site

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        found = self._routes.find(scope["path"])
        if scope["type"] == "websocket":
            await self._websocket(found, scope, receive, send)
            return
        exchange = Exchange(scope, receive, send)
        scope[EXCHANGE] = exchange
        try:
            if self._site.cors_origins and await self._preflight(exchange):
                return
            if found is None:
                await guarded(exchange, refuse(exchange, self._site, NotFound(f"No such path: {exchange.path}")))
                return
            endpoint, scope["path_params"] = found
            outage = self._site.outage
            if outage is None or is_open(exchange.path):
                await endpoint(scope, receive, send)
            elif outage.is_on:
                await outage.refuse(exchange)
            else:
                with outage.covering(exchange):
                    await endpoint(scope, receive, send)
        finally:
            self._ended(exchange)

    async def _websocket(
        self, found: tuple[App, dict[str, str]] | None, scope: ASGIScope, receive: Receive, send: Send
    ) -> None:
        exchange = Exchange(scope, receive, send)
        scope[EXCHANGE] = exchange
        try:
            if found is None or not isinstance(found[0], _Socket):
                await receive()
                await send({"type": "websocket.accept"})
                await send({"type": "websocket.close", "code": 4404, "reason": "no such path"})
                return
            endpoint, scope["path_params"] = found
            await endpoint(scope, receive, send)
        finally:
            # 101 is what the handshake was answered with; a session's close code is in its own frames.
            exchange.status = 101
            self._site.metrics.requests.add(1, ("WEBSOCKET", exchange.route, "101"))
            log_exchange(exchange)

    async def _preflight(self, exchange: Exchange) -> bool:
        """Adds CORS headers for an origin that is listed; True when the request was only a question about them."""
        origin = exchange.headers.get("origin")
        if origin is None or origin not in self._site.cors_origins:
            return False
        exchange.cors = [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"vary", b"Origin"),
            (b"access-control-expose-headers", b"*"),
        ]
        if exchange.method != "OPTIONS" or "access-control-request-method" not in exchange.headers:
            return False
        asked = exchange.headers.get("access-control-request-headers", "")
        headers = [
            ("access-control-allow-methods", "GET, POST, PUT, PATCH, DELETE"),
            ("access-control-max-age", str(_CORS_MAX_AGE_S)),
        ]
        if asked:
            headers.append(("access-control-allow-headers", asked))
        await exchange.respond(204, headers, b"")
        return True

    def _ended(self, exchange: Exchange) -> None:
        metrics = self._site.metrics
        method = exchange.method if exchange.method in _METHODS else "OTHER"
        took_s = (monotonic_ms() - exchange.started_ms) / 1000
        metrics.requests.add(1, (method, exchange.route, str(exchange.status)))
        metrics.seconds.observe(took_s, (method, exchange.route))
        log_exchange(exchange)


class _Socket:
    """A path that speaks WebSocket, and tells plain HTTP so."""

    def __init__(self, path: str, serve: App, site: Site) -> None:
        self._path = path
        self._serve = serve
        self._site = site

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        exchange.route = self._path
        if scope["type"] == "websocket":
            await self._serve(scope, receive, send)
            return
        error = NotFound("This path answers WebSockets only.")
        await guarded(exchange, refuse(exchange, self._site, error))


async def refuse(exchange: Exchange, site: Site, error: RgridError) -> None:
    """Credentials come first: who has none learns nothing about which paths exist."""
    if not is_open(exchange.path):
        await admit(exchange, site)
    raise error


async def _lifespan(receive: Receive, send: Send) -> None:
    """Whoever runs the service starts and stops its parts; the server only wants an answer."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
