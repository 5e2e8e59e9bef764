"""Signed addresses of inputs and outputs: one method, one object, for a while."""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol
from urllib.parse import urlencode

import msgspec

from rgrid.adapters.signing import Grant
from rgrid.api.grid import Grid
from rgrid.executions.events import DeclaredInput
from rgrid.kernel.clock import now


class Stored(Protocol):
    """What an address needs to know of an artifact."""

    @property
    def artifact_id(self) -> str: ...
    @property
    def filename(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def content_type(self) -> str: ...


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


def slot(execution_id: str, name: str) -> str:
    """Where clients that reach the object store themselves put an input. The name is the caller's: as a hash it can be
    no path."""
    return f"{execution_id}/{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"


def upload(grid: Grid, execution_id: str, declared: DeclaredInput, expires_at: datetime, base_url: str) -> str:
    """Where to PUT one input. Another size or hash than the declared one is refused, here or by the last check."""
    if grid.objects.direct is not None:
        place = slot(execution_id, declared.name)
        return grid.objects.direct.upload_url(place, _seconds_to(expires_at), declared.size_bytes)
    grant = Grant(
        expires=int(expires_at.timestamp()),
        size=declared.size_bytes,
        sha256=declared.sha256,
        filename=declared.name,
    )
    return grid.signer.url(base_url, "PUT", f"/uploads/{execution_id}", grant)


def download(grid: Grid, file: Stored, expires_at: datetime, base_url: str) -> str:
    """Where to GET one artifact."""
    if grid.objects.direct is not None:
        return grid.objects.direct.download_url(file.sha256, file.filename, file.content_type, _seconds_to(expires_at))
    grant = Grant(expires=int(expires_at.timestamp()), filename=file.filename.rpartition("/")[2])
    return grid.signer.url(base_url, "GET", f"/downloads/{file.artifact_id}", grant)


def _seconds_to(expires_at: datetime) -> int:
    return max(1, int((expires_at - now()).total_seconds()))
