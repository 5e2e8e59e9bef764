"""Where a bucket is, and addresses in it that are signed for one object, one method and a while (SigV4)."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from rgrid.kernel.errors import Invalid
from rgrid.settings import Settings, variable

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX: Final = re.compile(r"(?:[A-Za-z0-9._-]+/)*")
_NEEDED: Final = ("objects_access_key", "objects_secret_key")


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """`prefix` is empty or ends in a slash. `public_url` is what clients call the endpoint, if they reach it."""

    name: str
    prefix: str
    region: str
    endpoint: str | None
    public_url: str | None
    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"Bucket({self.name}/{self.prefix})"


def bucket_of(settings: Settings) -> Bucket:
    """The bucket that the settings name. Raises Invalid `bad_setting`."""
    name, _, path = (settings.objects_url or "").removeprefix("s3://").partition("/")
    prefix = f"{path.strip('/')}/" if path.strip("/") else ""
    if not _NAME.fullmatch(name) or not _PREFIX.fullmatch(prefix):
        raise _bad("objects_url", "must look like s3://bucket/prefix")
    missing = [one for one in _NEEDED if not getattr(settings, one)]
    if missing:
        raise _bad(missing[0], "is needed for a bucket")
    for one in ("objects_endpoint", "objects_public_url"):
        url = getattr(settings, one)
        if url is not None and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
            raise _bad(one, "must begin with http:// or https://")
    return Bucket(
        name=name,
        prefix=prefix,
        region=settings.objects_region,
        endpoint=settings.objects_endpoint,
        public_url=settings.objects_public_url,
        access_key=settings.objects_access_key or "",
        secret_key=settings.objects_secret_key or "",
    )


class DirectAddresses:
    """Signs without asking anybody: a signature is arithmetic on the key."""

    def __init__(self, bucket: Bucket) -> None:
        assert bucket.public_url is not None
        self._bucket = bucket
        self._base = bucket.public_url.rstrip("/")

    def slot_key(self, slot: str) -> str:
        return f"{self._bucket.prefix}slots/{slot}"

    def upload_url(self, key: str, expires_s: int, size_bytes: int | None = None) -> str:
        """A size is signed as the header that every client sends of its own accord."""
        headers = {} if size_bytes is None else {"content-length": str(size_bytes)}
        return self._signed("PUT", key, expires_s, {}, headers)

    def download_url(self, key: str, filename: str, content_type: str, expires_s: int) -> str:
        """The name and the type are part of what is signed."""
        shown = quote(filename.rpartition("/")[2] or "file", safe="")
        return self._signed(
            "GET",
            key,
            expires_s,
            {
                "response-content-disposition": f"attachment; filename*=UTF-8''{shown}",
                "response-content-type": content_type,
            },
        )

    def _signed(
        self,
        method: str,
        key: str,
        expires_s: int,
        parameters: Mapping[str, str],
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        from botocore.auth import S3SigV4QueryAuth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        credentials = Credentials(self._bucket.access_key, self._bucket.secret_key)
        url = f"{self._base}/{self._bucket.name}/{quote(key)}"
        request: Any = AWSRequest(method=method, url=url, params=dict(parameters), headers=dict(headers))
        S3SigV4QueryAuth(credentials, "s3", self._bucket.region, expires=expires_s).add_auth(request)
        signed: str = request.prepare().url
        return signed


def _bad(name: str, problem: str) -> Invalid:
    return Invalid(f"{variable(name)}: {problem}.", code="bad_setting", fields=[(variable(name), problem)])
