"""Signed addresses of inputs and outputs: one method, one object, for a while."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import urlencode

import msgspec

from rgrid.adapters.signing import Grant
from rgrid.api.grid import Grid
from rgrid.executions.events import DeclaredInput
from rgrid.kernel.clock import now


class SignedQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The parameters of a signed address, as texts: the signature covers them as they are."""

    expires: str | None = None
    size: str | None = None
    sha256: str | None = None
    filename: str | None = None
    signature: str | None = None

    def text(self) -> str:
        return urlencode(msgspec.to_builtins(self))


def ends_at(ttl_s: int) -> datetime:
    """When an address that is signed now expires: addresses know whole seconds."""
    return (now() + timedelta(seconds=ttl_s)).replace(microsecond=0)


def base(grid: Grid, headers: Mapping[str, str]) -> str:
    """Scheme and host under which this caller reaches us: the configured ones, else those of its request."""
    if grid.settings.public_url:
        return grid.settings.public_url.rstrip("/")
    return f"http://{headers.get('host') or f'{grid.settings.host}:{grid.settings.port}'}"


def upload(grid: Grid, execution_id: str, declared: DeclaredInput, expires_at: datetime, base_url: str) -> str:
    """Where to PUT one input. The store refuses another size or hash than the declared one."""
    grant = Grant(
        expires=int(expires_at.timestamp()),
        size=declared.size_bytes,
        sha256=declared.sha256,
        filename=declared.name,
    )
    return grid.signer.url(base_url, "PUT", f"/uploads/{execution_id}", grant)


def download(grid: Grid, artifact_id: str, filename: str, expires_at: datetime, base_url: str) -> str:
    """Where to GET one artifact."""
    grant = Grant(expires=int(expires_at.timestamp()), filename=filename.rpartition("/")[2])
    return grid.signer.url(base_url, "GET", f"/downloads/{artifact_id}", grant)
