"""What every service answers beside its own operations: root, health, metrics, the interface document, its page."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import msgspec

from rgrid.web import metrics, openapi
from rgrid.web.health import HealthResponse, LiveResponse
from rgrid.web.operation import Call, Operation, Reply
from rgrid.web.site import Site


class RootInfo(msgspec.Struct, kw_only=True):
    """Where to go from here."""

    message: str
    version: str
    docs: str
    openapi: str


@cache
def _page() -> bytes:
    return files("rgrid.web").joinpath("docs_page.html").read_bytes()


def own_operations(operations: Sequence[Operation], site: Site) -> list[Operation]:
    """The operations that need nothing but the site."""

    async def root(call: Call[None, None]) -> Reply:
        return Reply(200, RootInfo(message="rgrid", version=site.version, docs="/docs", openapi="/schema/openapi.json"))

    async def health(call: Call[None, None]) -> Reply:
        return Reply(200, await site.health.report())

    async def live(call: Call[None, None]) -> Reply:
        return Reply(200, LiveResponse(status="ok"))

    async def ready(call: Call[None, None]) -> Reply:
        return Reply(200, await site.health.readiness())

    async def scrape(call: Call[None, None]) -> Reply:
        return Reply(200, await site.metrics.scrape(), media_type=metrics.MEDIA_TYPE)

    @cache
    def text() -> bytes:
        """Made for the first who asks: it takes longer than all the rest that a start does over HTTP."""
        return msgspec.json.encode(openapi.document([*operations, *own], site.version))

    async def document(call: Call[None, None]) -> Reply:
        return Reply(200, text(), media_type="application/json")

    async def page(call: Call[None, None]) -> Reply:
        return Reply(200, _page(), headers=[("content-security-policy", _POLICY)])

    tags = ("service",)
    own = [
        Operation(method="GET", path="/", auth="open", handler=root, ok={200: RootInfo}, tags=tags,
                  summary="Where to go from here"),
        Operation(method="GET", path="/api/v1/health", auth="open", handler=health, ok={200: HealthResponse},
                  errors=(503,), tags=tags, summary="How the service and its components are"),
        Operation(method="GET", path="/api/v1/health/live", auth="open", handler=live, ok={200: LiveResponse},
                  tags=tags, summary="Whether the process answers"),
        Operation(method="GET", path="/api/v1/health/ready", auth="open", handler=ready, ok={200: HealthResponse},
                  errors=(503,), tags=tags, summary="Whether requests can be served now"),
        Operation(method="GET", path="/metrics", auth="open" if site.metrics_open else "read", handler=scrape,
                  ok={200: "text"}, tags=tags, summary="Numbers for Prometheus"),
        Operation(method="GET", path="/schema/openapi.json", auth="open", handler=document, ok={200: "text"},
                  hidden=True),
        Operation(method="GET", path="/docs", auth="open", handler=page, ok={200: "html"}, hidden=True),
    ]  # fmt: skip
    return own


_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
