"""Which runtimes there are, under which names, and which of them a worker can run now."""

import re
from collections.abc import Iterable
from typing import Final

import asyncpg
import msgspec

from projections import workers
from rgrid.kernel.clock import monotonic_ms
from rgrid.kernel.errors import Malformed
from rgrid.web.operation import Call, NoQuery, Operation, Reply
from rgrid.web.pages import Page, slice_page

DEFAULT: Final = "python:3.11"
FRESH_MS: Final = 1000
_PYTHONS: Final = tuple(f"3.{minor}" for minor in range(8, 16))
_NODES: Final = ("18", "20", "22", "24", "26")
_CANONICAL: Final = re.compile(r"(python|node|bash)(?::([0-9.]+))?")


class Runtime(msgspec.Struct, kw_only=True):
    """One runtime. `available` says that a worker runs it now; others are refused on create."""

    name: str
    aliases: list[str]
    language: str
    version: str
    image: str | None
    default: bool
    available: bool
    description: str | None


class Runtimes:
    """Knows every canonical name and alias."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._local: frozenset[str] = frozenset()
        self._offered: set[str] = set()
        self._asked_ms = -FRESH_MS
        self._meant: dict[str, str] = {}
        """What each text meant, among the runtimes offered now; it spares most submissions the search."""

    def found_here(self, runtimes: Iterable[str]) -> None:
        """The runtimes of this machine. They count as available while no worker is alive, so that work can be queued
        before the first one has started and after the last one was lost."""
        self._local = frozenset(runtimes)

    async def available(self) -> set[str]:
        """What workers offer, as known within the last second."""
        if monotonic_ms() - self._asked_ms >= FRESH_MS:
            offered = await workers.live_runtimes(self._pool)
            self._offered = set(self._local) if offered is None else offered
            self._meant.clear()
            self._asked_ms = monotonic_ms()
        return self._offered

    async def resolve(self, text: str) -> str:
        """The canonical name. Raises Malformed `unknown_runtime` for any other text and for one that no worker has."""
        available = await self.available()
        if text in self._meant:
            return self._meant[text]
        name = _canonical(text.strip().lower(), available)
        if name is None:
            raise _unknown(f"No runtime is called {text!r}.", available)
        if name not in available:
            raise _unknown(f"No worker has the runtime {name}.", available)
        self._meant[text] = name
        return name

    async def canonical(self, text: str) -> str:
        """The canonical name of an alias; any other text as it is."""
        return _canonical(text.strip().lower(), await self.available()) or text

    async def all(self) -> list[Runtime]:
        available = await self.available()
        names = sorted(_known() | available, key=lambda name: (name.partition(":")[0] != "python", _order(name)))
        return [_runtime(name, available) for name in names]


def _known() -> set[str]:
    return {f"python:{version}" for version in _PYTHONS} | {f"node:{version}" for version in _NODES} | {"bash"}


def _canonical(text: str, available: set[str]) -> str | None:
    for name in _known() | available:
        if text == name or text in _aliases(name, available):
            return name
    return None


def _aliases(name: str, available: set[str]) -> list[str]:
    """`python` means the default where a worker has it, else the newest Python there is; likewise `node`. A runtime by
    configuration has its own name alone."""
    language, _, version = name.partition(":")
    if not _CANONICAL.fullmatch(name):
        return []
    if language == "bash":
        return ["sh", "shell"]
    exact = [f"{language}{version}"] if version else []
    if language == "node":
        exact += [f"nodejs:{version}"] if version else []
    ours = [one for one in available if one.partition(":")[0] == language]
    preferred = (
        DEFAULT if language == "python" and (DEFAULT in ours or not ours) else max(ours, key=_order, default=None)
    )
    if name == preferred:
        exact += ["python", "python3"] if language == "python" else ["node", "nodejs"]
    return [alias for alias in exact if alias != name]


def _order(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.partition(":")[2].split(".") if part.isdigit())


def _runtime(name: str, available: set[str]) -> Runtime:
    matched = _CANONICAL.fullmatch(name)
    language, _, version = name.partition(":")
    described = None if matched else "By the configuration of a worker (RGRID_RUNTIMES)."
    return Runtime(
        name=name,
        aliases=_aliases(name, available),
        language=language,
        version=version,
        image=None,
        default=name == DEFAULT,
        available=name in available,
        description=described if name in available else "No worker has it now.",
    )


def _unknown(sentence: str, available: set[str]) -> Malformed:
    offered = ", ".join(sorted(available, key=lambda name: (name.partition(":")[0], _order(name)))) or "none"
    return Malformed(sentence, [("runtime", f"Available: {offered}.")], code="unknown_runtime")


def operations(runtimes: Runtimes) -> list[Operation]:
    async def listed(call: Call[NoQuery, None]) -> Reply:
        return Reply(200, slice_page(await runtimes.all(), call.page))

    return [
        Operation(
            method="GET",
            path="/api/v1/runtimes",
            auth="read",
            handler=listed,
            ok={200: Page[Runtime]},
            flags=frozenset({"page"}),
            tags=("executions",),
            summary="List the runtimes and which of them a worker can run now.",
        )
    ]
