"""A tiny slice to serve in tests: notes that are kept in memory."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rgrid.web.operation import ActionResponse, Call, Operation, Reply, missing
from rgrid.web.pages import Page, slice_page


class NoteCreate(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    title: Annotated[str, Meta(min_length=1, max_length=20)]
    stars: Annotated[int, Meta(ge=1, le=5)] = 3
    size_bytes: Annotated[int, Meta(ge=0)] | None = None
    tags: Annotated[list[Annotated[str, Meta(max_length=10)]], Meta(max_length=3)] = []
    params: dict[str, Any] = {}


class Note(msgspec.Struct, kw_only=True):
    id: str
    title: str
    version: int


class NoteQuery(msgspec.Struct, frozen=True):
    colour: Literal["red", "blue"] | None = None
    pinned: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    metadata: dict[str, str] | None = None
    weight: Annotated[float, Meta(ge=0.25, le=16)] = 1
    attempt: Annotated[int, Meta(ge=1)] | None = None


async def create(call: Call[None, NoteCreate]) -> Reply:
    note = Note(id="note_1", title=call.body.title, version=1)
    return Reply(201, note, etag=1, position=7, location="/api/v1/notes/note_1")


async def listing(call: Call[NoteQuery, None]) -> Reply:
    notes = [Note(id=f"note_{n}", title="t", version=1) for n in range(45)]
    return Reply(200, slice_page(notes, call.page))


async def echo(call: Call[NoteQuery, None]) -> Reply:
    return Reply(200, msgspec.json.encode(call.query), media_type="application/json")


async def one(call: Call[None, None]) -> Reply:
    if not call.path["note_id"].startswith("note_"):
        raise missing("Note", call.path["note_id"])
    return Reply(200, Note(id=call.path["note_id"], title="é", version=4), etag=4)


async def fixed(call: Call[None, None]) -> Reply:
    return Reply(200, ActionResponse(id="fixed", status="ok", message="the fixed segment"))


async def broken(call: Call[None, None]) -> Reply:
    raise RuntimeError("select secret from inside")


OPERATIONS = [
    Operation(method="POST", path="/api/v1/notes", auth="run", handler=create, body=NoteCreate,
              ok={201: Note}, flags=frozenset({"idem", "mutates"}), tags=("Notes",)),
    Operation(method="GET", path="/api/v1/notes", auth="read", handler=listing, query=NoteQuery,
              ok={200: Page[Note]}, flags=frozenset({"page", "as_of"}), sort=("created_at", "title"), tags=("Notes",)),
    Operation(method="GET", path="/api/v1/notes/{note_id}", auth="read", handler=one,
              ok={200: Note}, flags=frozenset({"etag"}), tags=("Notes",)),
    Operation(method="GET", path="/api/v1/notes/fixed", auth="read", handler=fixed, ok={200: ActionResponse}),
    Operation(method="GET", path="/api/v1/echo", auth="read", handler=echo, query=NoteQuery, ok={200: "text"}),
    Operation(method="GET", path="/api/v1/broken", auth="read", handler=broken, ok={200: Note}),
    Operation(method="POST", path="/api/v1/lines", auth="worker", handler=fixed, ok={200: ActionResponse}),
    Operation(method="POST", path="/api/v1/keys", auth="admin", handler=fixed, ok={200: ActionResponse}),
]  # fmt: skip
