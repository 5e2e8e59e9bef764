"""Every error as `application/problem+json` (RFC 9457), and the only place where an error gets its HTTP status."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

import msgspec

from rgrid.kernel.errors import (
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    Malformed,
    NotFound,
    RateLimited,
    Rejected,
    RgridError,
    SpendingLimit,
    StaleVersion,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "https://rgrid.dev/problems/"
INTERNAL_DETAIL: Final = "Something went wrong inside; the log has it under this request id."


class ProblemField(msgspec.Struct, frozen=True):
    """One wrong field of a request: where, as in `steps[2].type` or `query.limit`, and what is wrong there."""

    field: str
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every error."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[ProblemField]
    request_id: str


class MethodNotAllowed(RgridError):
    """The path exists, the method doesn't."""

    code = "method_not_allowed"

    def __init__(self, detail: str, *, allow: Sequence[str]) -> None:
        super().__init__(detail)
        self.allow = tuple(allow)


class UnsupportedMediaType(RgridError):
    """The body is of another media type than the operation reads."""

    code = "unsupported_media_type"


# The first class that fits counts, so children stand before their parents.
_STATUS: Final[tuple[tuple[type[RgridError], HTTPStatus], ...]] = (
    (Malformed, HTTPStatus.UNPROCESSABLE_ENTITY),
    (Invalid, HTTPStatus.BAD_REQUEST),
    (Rejected, HTTPStatus.CONFLICT),
    (NotFound, HTTPStatus.NOT_FOUND),
    (Gone, HTTPStatus.GONE),
    (Conflict, HTTPStatus.CONFLICT),
    (StaleVersion, HTTPStatus.PRECONDITION_FAILED),
    (Unauthenticated, HTTPStatus.UNAUTHORIZED),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (SpendingLimit, HTTPStatus.PAYMENT_REQUIRED),
    (RateLimited, HTTPStatus.TOO_MANY_REQUESTS),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (MethodNotAllowed, HTTPStatus.METHOD_NOT_ALLOWED),
    (UnsupportedMediaType, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
)


class Answer(msgspec.Struct, frozen=True):
    """An error, ready to send."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def status_of(error: RgridError) -> int:
    """The HTTP status of an error."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return int(status)
    return int(HTTPStatus.INTERNAL_SERVER_ERROR)


def title_of(status: int) -> str:
    """The reason phrase that stands as a problem's title."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def problem(error: RgridError, instance: str, request_id: str) -> Answer:
    """The answer to a request that ended in `error`."""
    status = status_of(error)
    internal = status == HTTPStatus.INTERNAL_SERVER_ERROR
    fields = [ProblemField(field, message) for field, message in getattr(error, "fields", ())]
    body = Problem(
        type=TYPE_PREFIX + ("internal" if internal else error.code),
        title=title_of(status),
        status=status,
        detail=INTERNAL_DETAIL if internal else error.detail,
        instance=instance,
        code="internal" if internal else error.code,
        errors=fields,
        request_id=request_id,
    )
    return Answer(status, _headers(error), _encode(body, {} if internal else error.extra))


def internal(instance: str, request_id: str) -> Answer:
    """The answer to a request that ended in an exception nobody foresaw: it says nothing about the inside."""
    return problem(RgridError(INTERNAL_DETAIL), instance, request_id)


def _headers(error: RgridError) -> list[tuple[str, str]]:
    headers = [("content-type", MEDIA_TYPE)]
    if isinstance(error, Unauthenticated):
        headers.append(("www-authenticate", 'Bearer realm="rgrid"'))
    if isinstance(error, MethodNotAllowed):
        headers.append(("allow", ", ".join(error.allow)))
    after = getattr(error, "retry_after_s", None)
    if after is not None:
        headers.append(("retry-after", str(max(1, after))))
    return headers


def _encode(body: Problem, extra: Mapping[str, object]) -> bytes:
    """Extra members come after the standard ones and never hide one of them."""
    if not extra:
        return msgspec.json.encode(body)
    members = msgspec.to_builtins(body)
    return msgspec.json.encode(members | {name: value for name, value in extra.items() if name not in members})
