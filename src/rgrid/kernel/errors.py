"""Errors by what the caller can do about them. Each has a stable `code`; HTTP statuses live in `web/problems.py`."""

from collections.abc import Mapping, Sequence
from typing import Any


class RgridError(Exception):
    """The root. `extra` holds members that a problem document shows beside the standard ones."""

    code = "internal"

    def __init__(self, detail: str, *, code: str | None = None, extra: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.extra = dict(extra or {})


class Malformed(RgridError):
    """The request has the wrong shape: mend it. `fields` are (path, message) pairs, every one that is wrong."""

    code = "validation_failed"

    def __init__(self, detail: str, fields: Sequence[tuple[str, str]] = (), *, code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.fields = list(fields)


class Invalid(RgridError):
    """The right shape that makes no sense: a bad cron expression, a cursor of another list. Mend it."""

    code = "invalid"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        fields: Sequence[tuple[str, str]] = (),
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail, code=code, extra=extra)
        self.fields = list(fields)


class Rejected(RgridError):
    """The rules say no in the present state: look at the state, then decide."""

    code = "illegal_transition"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        fields: Sequence[tuple[str, str]] = (),
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail, code=code, extra=extra)
        self.fields = list(fields)


class NotFound(RgridError):
    """There is no such thing."""

    code = "not_found"


class Gone(RgridError):
    """It was there, and its time is over."""

    code = "gone"


class Conflict(RgridError):
    """Somebody else was faster: read again and retry."""

    code = "conflict"


class StaleVersion(RgridError):
    """If-Match named another version than the present one."""

    code = "version_mismatch"


class Unauthenticated(RgridError):
    """No credentials, or none that count."""

    code = "credentials_missing"


class Forbidden(RgridError):
    """Known, but not allowed."""

    code = "scope_missing"


class TooLarge(RgridError):
    """More bytes than the limit."""

    code = "body_too_large"


class SpendingLimit(RgridError):
    """The monthly limit would be overshot."""

    code = "spending_limit_exceeded"


class RateLimited(RgridError):
    """Too many requests: come back after `retry_after_s`."""

    code = "rate_limited"

    def __init__(self, detail: str, *, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Unavailable(RgridError):
    """A part is down or full: come back after `retry_after_s`."""

    code = "unavailable"

    def __init__(self, detail: str, *, code: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(detail, code=code)
        self.retry_after_s = retry_after_s
