"""Applies the workflow definitions that lie in a folder, when the service starts and whenever one changes."""

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from rgrid.adapters.script_files import files_named, inlined
from rgrid.adapters.yaml_source import BadSource, Source, read_all
from rgrid.api.grid import Grid
from rgrid.api.workflow_defining import define
from rgrid.api.workflow_documents import WorkflowDefinitionInput
from rgrid.kernel.errors import Conflict, Invalid, Malformed, TooLarge, Unavailable
from rgrid.kernel.ids import new_command_id
from rgrid.kernel.messages import Cause
from rgrid.web.decoding import BodyDecoder

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
FILES_MAX: Final = 1_000
FILE_MAX_BYTES: Final = 16 * 1024 * 1024
AGAIN_EVERY_LOOKS: Final = 30
"""So often what couldn't be applied is tried again: what it refers to may have come in another way."""
LINES_MAX: Final = 20
_SUFFIXES: Final = (".yaml", ".yml", ".json")
_DECODER: Final = BodyDecoder(WorkflowDefinitionInput)
_Stamp = tuple[tuple[int, int, int], ...]


class _File(msgspec.Struct):
    """What is known of a file: how it looked the last time, how when it was read, what was in it, and which scripts
    its definitions name."""

    seen: _Stamp = ()
    taken: _Stamp | None = None
    content_hash: bytes = b""
    scripts: list[Path] = []


class _Open(msgspec.Struct):
    """A definition that isn't applied yet, why, and what has been said about it."""

    path: Path
    source: Source
    problems: list[str] = []
    told: list[str] = []


class WorkflowFolder:
    """One folder. What is wrong in it is logged once, and stops nothing."""

    def __init__(self, grid: Grid, folder: Path) -> None:
        self._grid = grid
        self._folder = folder
        self._files: dict[Path, _File] = {}
        self._open: list[_Open] = []
        self._looks = 0
        self._is_due = False
        self._told: set[str] = set()

    async def look(self) -> None:
        """Apply what is new since the last look. A definition that refers to one that isn't there waits for it."""
        changed = await asyncio.to_thread(self._changed, at_once=self._looks == 0)
        for path, content in changed:
            self._open = [one for one in self._open if one.path != path]
            self._open += self._read(path, content)
        self._looks += 1
        if changed or self._looks % AGAIN_EVERY_LOOKS == 0:
            self._is_due = True
        if self._is_due:
            # It stays due when the database goes away meanwhile.
            self._is_due = await self._apply()

    # ---------------------------------------------------------------- reading

    def _changed(self, *, at_once: bool) -> list[tuple[Path, bytes]]:
        """Files whose content is new. One that changes is read when it looks the same for two looks: nobody knows
        when it is written to its end."""
        found: list[tuple[Path, bytes]] = []
        try:
            paths = sorted(one for one in self._folder.iterdir() if one.suffix in _SUFFIXES and one.name[0] != ".")
            if len(paths) > FILES_MAX:
                self._tell(f"{self._folder}: only the first {FILES_MAX} files are looked at")
            for path in paths[:FILES_MAX]:
                content = self._content(path, at_once=at_once)
                found += [] if content is None else [(path, content)]
        except OSError as error:
            self._tell(f"{self._folder}: {error.strerror}")
            return found
        self._files = {path: file for path, file in self._files.items() if path in set(paths)}
        return found

    def _content(self, path: Path, *, at_once: bool) -> bytes | None:
        try:
            status = path.stat()
            file = self._files.setdefault(path, _File())
            stamp = tuple(_stamp(one) for one in (path, *file.scripts))
            is_still, file.seen = file.seen == stamp, stamp
            if stamp == file.taken or not (is_still or at_once):
                return None
            file.taken = stamp
            if status.st_size > FILE_MAX_BYTES:
                self._tell(f"{path}: it takes more than {FILE_MAX_BYTES >> 20} MiB")
                return None
            content = path.read_bytes()
        except OSError as error:
            self._tell(f"{path}: {error.strerror}")
            return None
        content_hash = hashlib.sha256(content + b"".join(map(_bytes, file.scripts))).digest()
        if content_hash == file.content_hash:
            return None
        file.content_hash = content_hash
        return content

    def _read(self, path: Path, content: bytes) -> list[_Open]:
        try:
            sources = read_all(content)
        except BadSource as bad:
            log.warning("%s: %s (malformed)", _place(path, bad.line), bad.message)
            return []
        # From now on a change of a script is a change of the file.
        self._files[path].scripts = [script for one in sources for script in files_named(one.data, path.parent)]
        found = []
        for source in sources:
            data, wrong = inlined(source.data, path.parent)
            for field, why in wrong:
                log.warning("%s: %s (bad_file)", _place(path, source.line(field)), why)
            found += [] if wrong else [_Open(path, Source(data, source.lines))]
        return found

    # ---------------------------------------------------------------- applying

    async def _apply(self) -> bool:
        """Whether it must be tried again soon. Files come in an order that their definitions know nothing of, so each
        that works may help another one."""
        soon = False
        left = len(self._open) + 1
        while self._open and len(self._open) < left:
            left = len(self._open)
            for one in list(self._open):
                try:
                    one.problems = await self._define(one)
                except (Unavailable, Conflict):
                    soon = True
                    continue
                if not one.problems:
                    self._open.remove(one)
        for one in self._open:
            if one.problems != one.told:
                one.told = one.problems
                for line in one.problems[:LINES_MAX]:
                    log.warning("%s", line)
        return soon

    async def _define(self, one: _Open) -> list[str]:
        """Nothing when it is applied, else what is wrong with it. Raises Unavailable, Conflict."""
        data = one.source.data
        name = data.get("name") if isinstance(data, dict) else None
        name = name if isinstance(name, str) else one.path.stem
        cause = Cause(actor="system", command_id=new_command_id())
        try:
            body = _DECODER.take(one.source)
            defined = await define(self._grid, name, body, cause, by="system", written=one.source)
        except Malformed as wrong:
            return [f"{_place(one.path, one.source.line(field))}: {field}: {why}" for field, why in wrong.fields]
        except Invalid as wrong:
            return _lines(one, wrong)
        except TooLarge as refused:
            return [f"{_place(one.path, one.source.line(''))}: {refused.detail}"]
        if defined.status != "unchanged":
            log.info("workflow %s is at version %s, by %s", name, defined.version, one.path)
        return []

    def _tell(self, line: str) -> None:
        """Once, as long as the service runs."""
        if line not in self._told and len(self._told) < FILES_MAX:
            self._told.add(line)
            log.warning("%s", line)


def _stamp(path: Path) -> tuple[int, int, int]:
    """How a file looks; one that isn't there looks like nothing."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return status.st_ctime_ns, status.st_size, status.st_ino


def _bytes(script: Path) -> bytes:
    try:
        return script.read_bytes() if script.stat().st_size <= FILE_MAX_BYTES else b""
    except OSError:
        return b""


def _lines(one: _Open, wrong: Invalid) -> list[str]:
    found: Sequence[dict[str, object]] = wrong.extra.get("issues", [])
    if not found:
        return [f"{_place(one.path, one.source.line(''))}: {wrong.detail} ({wrong.code})"]
    return [
        f"{_place(one.path, one.source.line(str(issue['field'] or '')))}: {issue['message']} ({issue['code']})"
        for issue in found
    ]


def _place(path: Path, line: int | None) -> str:
    return str(path) if line is None else f"{path}:{line}"
