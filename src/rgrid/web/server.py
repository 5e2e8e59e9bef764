"""Puts operations and WebSockets together into one ASGI application, served through Litestar."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from litestar import Litestar, Request, Response, asgi
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.handlers import ASGIRouteHandler

from rgrid.kernel.clock import monotonic_ms
from rgrid.kernel.errors import Invalid, NotFound
from rgrid.web.access_log import log_exchange
from rgrid.web.docs import own_operations
from rgrid.web.endpoint import EXCHANGE, Endpoint, admit, guarded, templates
from rgrid.web.exchange import App, ASGIScope, Exchange, Receive, Send
from rgrid.web.operation import Operation
from rgrid.web.principal import is_open
from rgrid.web.problems import internal
from rgrid.web.site import Site

log = logging.getLogger(__name__)

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CORS_MAX_AGE_S: Final = 600


def build(operations: Sequence[Operation], site: Site, websockets: Mapping[str, App] | None = None) -> App:
    """The application: the given operations and WebSocket handlers, beside those every service has (health, metrics,
    the interface document and its page)."""
    everything = [*operations, *own_operations(operations, site)]
    handlers: list[ASGIRouteHandler] = []
    for path, group in templates(everything).items():
        handlers.append(_route(path, Endpoint(path, group, site)))
    for path, socket in (websockets or {}).items():
        handlers.append(_route(path, _socket_only(path, socket, site)))
    litestar = Litestar(
        route_handlers=handlers,
        openapi_config=None,
        logging_config=None,
        exception_handlers={Exception: _refusal(site)},
    )
    return Front(litestar, site)  # type: ignore[arg-type]


class Front:
    """The outermost layer: gives each request its exchange, and sees how it ends."""

    def __init__(self, inner: App, site: Site) -> None:
        self._inner = inner
        self._site = site

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send)
        scope[EXCHANGE] = exchange
        try:
            if self._site.cors_origins and await self._preflight(exchange):
                return
            await self._inner(scope, receive, send)
        except Exception:  # Nothing above this layer could still answer.
            if exchange.status:
                raise
            log.exception("the router failed", extra={"fields": {"request_id": exchange.request_id}})
            await exchange.answer(internal(exchange.path, exchange.request_id))
        finally:
            self._ended(exchange)

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


def _route(path: str, endpoint: App) -> ASGIRouteHandler:
    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket" and isinstance(endpoint, Endpoint):
            await send({"type": "websocket.close", "code": 4404, "reason": "not a WebSocket"})
            return
        await endpoint(scope, receive, send)

    return asgi(_litestar_path(path), copy_scope=False)(serve)


def _litestar_path(path: str) -> str:
    """Litestar wants the type of a path parameter."""
    return path.replace("}", ":str}")


def _socket_only(path: str, socket: App, site: Site) -> App:
    async def serve(scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await socket(scope, receive, send)
            return
        exchange: Exchange = scope[EXCHANGE]
        exchange.route = path
        await guarded(exchange, _refuse(exchange, site, NotFound("This path answers WebSockets only.")))

    return serve


async def _refuse(exchange: Exchange, site: Site, error: Exception) -> None:
    """Credentials come first: who has none learns nothing about which paths exist."""
    if not is_open(exchange.path):
        await admit(exchange, site)
    raise error


class _Refusal(Response[None]):
    """What Litestar's router refused, handed back to our own way of answering."""

    def __init__(self, site: Site, error: Exception) -> None:
        super().__init__(None)
        self._site = site
        self._error = error

    def to_asgi_response(self, *args: Any, **kwargs: Any) -> Any:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            exchange: Exchange = scope[EXCHANGE]
            await guarded(exchange, _refuse(exchange, self._site, self._error))

        return answer


def _refusal(site: Site) -> Any:
    def handle(request: Request[Any, Any, Any], error: Exception) -> Response[None]:
        if isinstance(error, NotFoundException | MethodNotAllowedException):
            return _Refusal(site, NotFound(f"No such path: {request.scope['path']}"))
        if isinstance(error, HTTPException) and error.status_code < 500:
            return _Refusal(site, Invalid("The request can't be read.", code="bad_request"))
        return _Refusal(site, error)

    return handle
