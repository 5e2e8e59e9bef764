"""Tickets: a minute's right to follow one execution, for clients that can't send a header. Each works once."""

from datetime import datetime
from typing import Final

import msgspec

from rgrid.access import key_secret
from rgrid.postgres.paging import Queryable
from rgrid.web.principal import Principal

HEAD: Final = "wst_"
TTL_S: Final = 60
PURGED_MAX: Final = 1_000
_LENGTH_MAX: Final = 100

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Principal).decode


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller gets; of the ticket itself only the hash is kept."""

    ticket: str
    execution_id: str
    expires_at: datetime


async def issue(connection: Queryable, caller: Principal, execution_id: str) -> Ticket:
    """A new ticket: whoever shows it is `caller`, for this execution."""
    ticket = key_secret.new_secret(HEAD)
    expires_at: datetime = await connection.fetchval(
        "insert into rgrid.ws_tickets (ticket_hash, execution_id, principal, expires_at)"
        " values ($1, $2, $3, clock_timestamp() + make_interval(secs => $4)) returning expires_at",
        key_secret.hash_of(ticket),
        execution_id,
        _encode(caller),
        TTL_S,
    )
    return Ticket(ticket=ticket, execution_id=execution_id, expires_at=expires_at)


async def redeem(connection: Queryable, ticket: str, execution_id: str) -> Principal | None:
    """Who got this ticket for this execution; None when it is unknown, over, used already, or for another one.

    Deleting the row is what uses it, so of two processes that try at the same time one gets it. Whether the caller's
    key still counts is for the authenticator to say.
    """
    if not ticket.startswith(HEAD) or len(ticket) > _LENGTH_MAX or not ticket.isascii():
        return None
    principal: bytes | None = await connection.fetchval(
        "delete from rgrid.ws_tickets where ticket_hash = $1 and execution_id = $2 and expires_at > clock_timestamp()"
        " returning principal",
        key_secret.hash_of(ticket),
        execution_id,
    )
    return None if principal is None else _decode(principal)


async def purge(connection: Queryable) -> int:
    """Drop tickets that are over, some at a time; says how many."""
    status = await connection.execute(
        "delete from rgrid.ws_tickets where ticket_hash in (select ticket_hash from rgrid.ws_tickets"
        " where expires_at <= clock_timestamp() order by expires_at limit $1)",
        PURGED_MAX,
    )
    return int(status.rpartition(" ")[2])
