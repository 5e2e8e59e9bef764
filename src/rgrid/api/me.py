"""Who am I: what the service knows of the caller's own credentials."""

from datetime import datetime

import msgspec

from rgrid.api.grid import Grid
from rgrid.web.operation import Call, NoQuery, Operation, Reply
from rgrid.web.principal import ActorKind, Scope


class Me(msgspec.Struct, kw_only=True):
    """The caller. Scopes nest: admin includes run, run includes read."""

    actor: str
    actor_kind: ActorKind
    key_id: str | None
    name: str | None
    scopes: list[Scope]
    expires_at: datetime | None
    rate_limit_per_minute: int


def operations(grid: Grid) -> list[Operation]:
    per_minute = grid.settings.rate_limit * 60

    async def me(call: Call[NoQuery, None]) -> Reply:
        caller = call.actor
        body = Me(
            actor=caller.actor,
            actor_kind=caller.actor_kind,
            key_id=caller.key_id,
            name=caller.name,
            scopes=list(caller.scopes),
            expires_at=caller.expires_at,
            rate_limit_per_minute=per_minute,
        )
        return Reply(200, body)

    return [
        Operation(
            method="GET",
            path="/api/v1/me",
            auth="read",
            handler=me,
            ok={200: Me},
            tags=("access",),
            summary="Show who the credentials belong to and what they allow.",
        )
    ]
