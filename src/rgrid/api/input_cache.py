"""The input cache over HTTP: sets of verified inputs that a client need not upload again."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from projections import artifacts, input_cache
from rgrid.adapters.objects import is_sha256
from rgrid.api.execution_requests import InputFileSpec, declared
from rgrid.api.grid import Grid
from rgrid.executions.commands import CacheInputs
from rgrid.executions.events import StoredFile
from rgrid.executions.input_cache import DECIDER
from rgrid.kernel.clock import now
from rgrid.kernel.errors import Invalid, NotFound
from rgrid.kernel.input_hash import input_hash
from rgrid.web.operation import Call, NoQuery, Operation, Reply

LOOKS_AT_ONCE_MAX: Final = 16
_KEY: Final = "objects/"


class InputCacheLookup(msgspec.Struct, kw_only=True):
    """References by name, to be given as `cached_input_refs`."""

    cache_hit: bool
    file_references: dict[str, str] | None
    expires_at: datetime | None


class InputCacheStore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The references are the `file_path` of input artifacts, or `objects/` and the SHA-256."""

    input_hash: Annotated[str, Meta(min_length=64, max_length=64)]
    file_references: Annotated[dict[str, str], Meta(min_length=1, max_length=1000)]


class InputCacheStored(msgspec.Struct, kw_only=True):
    """`existing`: it was there before, and stays as it was."""

    stored: bool
    existing: bool


class InputCache:
    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    async def lookup(self, call: Call[NoQuery, None]) -> Reply:
        wanted = _checked_hash(call.path["input_hash"])
        await self._grid.caught_up()
        entry = await input_cache.get(self._grid.pool, wanted, now())
        if entry is None or not await _all_there(self._grid, entry.files.values()):
            return Reply(200, InputCacheLookup(cache_hit=False, file_references=None, expires_at=None))
        references = {name: f"{_KEY}{sha256}" for name, sha256 in entry.files.items()}
        return Reply(200, InputCacheLookup(cache_hit=True, file_references=references, expires_at=entry.expires_at))

    async def store(self, call: Call[NoQuery, InputCacheStore]) -> Reply:
        grid, body = self._grid, call.body
        _checked_hash(body.input_hash)
        declared(body.file_references)
        await grid.caught_up()
        files = await _verified(grid, body.file_references)
        if input_hash((file.name, file.sha256) for file in files) != body.input_hash:
            raise Invalid(
                "The hash is not that of these names and contents.",
                code="input_hash_mismatch",
                fields=[("input_hash", "SHA-256 over the sorted lines `<sha256> <name>`.")],
            )
        command = CacheInputs(files=files, keep_days=grid.settings.artifacts_keep_days)
        handled = await grid.handler.handle(DECIDER, body.input_hash, command, call.cause())
        return Reply(200, InputCacheStored(stored=True, existing=not handled.events), position=handled.position)


async def cached_inputs(
    grid: Grid, references: Mapping[str, str] | None, inputs: Sequence[InputFileSpec]
) -> list[StoredFile]:
    """The inputs that come from the cache. A reference counts only under the name that the cache has it by, while its
    entry lives and its object is there. Raises Invalid for a name that isn't declared, NotFound otherwise."""
    if not references:
        return []
    specs = {spec.name: spec for spec in inputs}
    await grid.caught_up()
    hashes = {name: _hash_in(reference) for name, reference in references.items()}
    known = await input_cache.known(grid.pool, hashes, now())
    for name, reference in references.items():
        file, spec = known.get(name), specs.get(name)
        if file is None or (spec is not None and _is_another(spec, file)):
            raise _unknown(reference)
        if not await grid.objects.touch(file.sha256):
            raise _unknown(reference)
    if strangers := sorted(references.keys() - specs.keys()):
        raise Invalid(
            "A cached input is not among the inputs.",
            code="cached_input_undeclared",
            fields=[(f"cached_input_refs.{name}", "Not in input_files.") for name in strangers],
        )
    return [known[name] for name in references]


def _is_another(spec: InputFileSpec, file: StoredFile) -> bool:
    return spec.sha256 not in (None, file.sha256) or spec.size_bytes not in (None, file.size_bytes)


async def _verified(grid: Grid, references: Mapping[str, str]) -> list[StoredFile]:
    """What the references stand for, all of it verified input of some execution. From here on the objects stay long
    enough for the entry to be written."""
    hashes = {name: _hash_in(reference) for name, reference in references.items()}
    sizes = await artifacts.inputs_held(grid.pool, sorted(set(hashes.values())))
    for name, sha256 in hashes.items():
        if sha256 not in sizes:
            raise _unknown(references[name])
    if not await _all_there(grid, set(hashes.values())):
        raise _unknown(next(iter(references.values())))
    return [StoredFile(name=name, size_bytes=sizes[sha256], sha256=sha256) for name, sha256 in sorted(hashes.items())]


async def _all_there(grid: Grid, hashes: Iterable[str]) -> bool:
    gate = asyncio.Semaphore(LOOKS_AT_ONCE_MAX)

    async def is_there(sha256: str) -> bool:
        async with gate:
            return await grid.objects.touch(sha256)

    return all(await asyncio.gather(*(is_there(sha256) for sha256 in hashes)))


def _hash_in(reference: str) -> str:
    sha256 = reference.removeprefix(_KEY)
    if not reference.startswith(_KEY) or not is_sha256(sha256):
        raise _unknown(reference)
    return sha256


def _checked_hash(text: str) -> str:
    if not is_sha256(text):
        raise Invalid("An input hash is 64 lower-case hex digits.", code="bad_input_hash")
    return text


def _unknown(reference: str) -> NotFound:
    return NotFound(f"Cached input not found: {reference[:200]}", code="cache_reference_unknown")


def operations(grid: Grid) -> list[Operation]:
    controllers = InputCache(grid)
    tags = ("executions",)
    return [
        Operation(
            method="GET", path="/api/v1/input-cache/{input_hash}", auth="run", handler=controllers.lookup,
            ok={200: InputCacheLookup}, errors=(400,), never=(404,), tags=tags,
            summary="Ask whether a set of inputs, by names and contents, is here already.",
        ),
        Operation(
            method="POST", path="/api/v1/input-cache", auth="run", handler=controllers.store,
            ok={200: InputCacheStored}, body=InputCacheStore, errors=(404,), flags=frozenset({"mutates"}), tags=tags,
            summary="Remember a set of verified inputs, so that nobody uploads it again.",
        ),
    ]  # fmt: skip
