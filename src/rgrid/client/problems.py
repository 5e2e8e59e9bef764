"""What can go wrong between a client and the service, as exceptions that carry the problem document."""

from typing import Any

import msgspec

from rgrid.kernel.converting import convert


class ProblemField(msgspec.Struct, frozen=True):
    field: str
    message: str


class Problem(msgspec.Struct, frozen=True):
    """The body of every error (RFC 9457). A proxy in between may answer in its own way, so all have defaults."""

    status: int
    detail: str
    code: str = "unknown"
    title: str = ""
    instance: str = ""
    request_id: str = ""
    errors: list[ProblemField] = []


class GridError(Exception):
    """The root. `str()` is one sentence for people; `request_id` finds the call in the service's log."""

    request_id = ""
    code = "client"


class Refused(GridError):
    """The service answered, and the answer is no. `problem` says why, `members` has what else the document held."""

    def __init__(self, problem: Problem, members: dict[str, Any] | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.members = members or {}
        self.code = problem.code
        self.request_id = problem.request_id

    @property
    def status(self) -> int:
        return self.problem.status


class Unreachable(GridError):
    """Nothing answered, or what answered broke off."""

    code = "unreachable"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"Nothing answers at {url}: {reason}.")
        self.url = url


class BadTransfer(GridError):
    """A file changed on its way, or can't be stored where it belongs."""

    code = "bad_transfer"


def refusal(status: int, body: bytes, request_id: str) -> Refused:
    """The exception for an error answer, whatever its body looks like."""
    try:
        members = msgspec.json.decode(body, type=dict[str, Any])
        problem = convert({**members, "status": status}, Problem)
    except (msgspec.DecodeError, msgspec.ValidationError):
        detail = f"The service answered with status {status} and no explanation."
        return Refused(Problem(status=status, detail=detail, request_id=request_id))
    known = set(Problem.__struct_fields__) | {"type"}
    return Refused(problem, {name: value for name, value in members.items() if name not in known})
