"""Signed addresses: whoever has one may do one thing with one path for a while, and nothing else."""

import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from rgrid.kernel.errors import Forbidden, Gone

PARAMETERS_MAX: Final = 8
_SIGNATURE: Final = "signature"


class Grant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a signed address allows beside its method and path: until when, and of what size, hash and name."""

    expires: int
    size: int | None = None
    sha256: str | None = None
    filename: str | None = None


class Signer:
    """Signs with the first key and accepts every one, so that keys can change while addresses are out."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        assert keys, "a signer needs a key"
        self._keys = list(keys)

    def sign(self, method: str, path: str, grant: Grant) -> str:
        """The query string for a path as the server will see it, percent-decoded."""
        parameters = {key: str(value) for key, value in msgspec.to_builtins(grant).items()}
        parameters[_SIGNATURE] = _mac(self._keys[0], method, path, grant)
        return urlencode(parameters, quote_via=quote)

    def url(self, base: str, method: str, path: str, grant: Grant) -> str:
        """The whole address below `base` (scheme and host)."""
        return f"{base.rstrip('/')}{quote(path)}?{self.sign(method, path, grant)}"

    def verify(self, method: str, path: str, query: str, now: datetime) -> Grant:
        """What the address allows. Raises Forbidden when it isn't ours as it stands, Gone when its time is over.

        Who may GET may HEAD.
        """
        method = "GET" if method == "HEAD" else method
        try:
            pairs = parse_qsl(
                query,
                keep_blank_values=True,
                strict_parsing=True,
                errors="strict",
                max_num_fields=PARAMETERS_MAX,
            )
            parameters = dict(pairs)
            signature = parameters.pop(_SIGNATURE)
            grant = msgspec.convert(parameters, Grant, strict=False)
        except (ValueError, KeyError, msgspec.ValidationError):
            raise _refused() from None
        expected = [_mac(key, method, path, grant) for key in self._keys]
        # Each is compared, and each comparison takes the same time whatever differs.
        matches = [hmac.compare_digest(signature.encode(), mac.encode()) for mac in expected]
        if len(pairs) != len(parameters) + 1 or not any(matches):
            raise _refused()
        if now.timestamp() >= grant.expires:
            raise Gone("This address has expired; ask for a new one.", code="url_expired")
        return grant


def _mac(key: bytes, method: str, path: str, grant: Grant) -> str:
    # JSON keeps the parts apart: no two different lists have one text.
    parts = [method, path, grant.expires, grant.size, grant.sha256, grant.filename]
    return hmac.new(key, msgspec.json.encode(parts), hashlib.sha256).hexdigest()


def _refused() -> Forbidden:
    return Forbidden("The signature of this address doesn't match.", code="signature_invalid")
