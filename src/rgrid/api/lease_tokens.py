"""Lease tokens: what a worker shows to speak for one attempt of one execution, and nothing else."""

import hashlib
import hmac
import re
from typing import Final

import msgspec

from rgrid.web.principal import Principal

_FORM: Final = re.compile(r"lt_(exec_[0-9A-Z]{26})\.(\d{1,9})\.(\d{1,18})\.([0-9a-f]{64})", re.ASCII)


class LeaseClaim(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says. Whether the lease still holds is for `rgrid.leases` to tell."""

    execution_id: str
    attempt: int
    fencing_token: int


class LeaseTokens:
    """Signs and reads lease tokens (HMAC-SHA256, RFC 2104) with a key of the installation."""

    def __init__(self, key: bytes) -> None:
        self._key = hashlib.sha256(b"lease token\0" + key).digest()

    def issue(self, claim: LeaseClaim) -> str:
        text = f"{claim.execution_id}.{claim.attempt}.{claim.fencing_token}"
        return f"lt_{text}.{self._mac(text)}"

    def read(self, token: str) -> LeaseClaim | None:
        matched = _FORM.fullmatch(token)
        if matched is None:
            return None
        execution_id, attempt, fencing_token, mac = matched.groups()
        if not hmac.compare_digest(mac, self._mac(f"{execution_id}.{attempt}.{fencing_token}")):
            return None
        return LeaseClaim(execution_id=execution_id, attempt=int(attempt), fencing_token=int(fencing_token))

    def principal(self, token: str) -> Principal | None:
        """Who shows this token; None when it is no lease token of ours."""
        claim = self.read(token)
        if claim is None:
            return None
        return Principal(actor=f"worker:{claim.execution_id}", actor_kind="worker", subject=token)

    def _mac(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
