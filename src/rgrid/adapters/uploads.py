"""Which file of which execution has been uploaded, and as what object: slots that a signed PUT fills.

A slot is one small file, so that an acknowledged upload survives a crash and other processes see it.
"""

import asyncio
import hashlib
import re
import shutil
from pathlib import Path
from typing import Final

import msgspec

from rgrid.adapters.durable import storage_trouble, write_whole
from rgrid.adapters.objects import StoredObject
from rgrid.kernel.errors import NotFound

_ID: Final = re.compile(r"[A-Za-z0-9_]{1,100}")


class Uploads:
    """The slots below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def record(self, execution_id: str, name: str, stored: StoredObject) -> None:
        """Fill the slot, or fill it anew; durable on return."""
        path = self._slot(execution_id, name)
        try:
            await asyncio.to_thread(write_whole, path, msgspec.json.encode(stored))
        except OSError as problem:
            raise storage_trouble(problem) from problem

    async def uploaded(self, execution_id: str, name: str) -> StoredObject | None:
        """What the slot holds."""
        path = self._slot(execution_id, name)
        try:
            content = await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise storage_trouble(problem) from problem
        return msgspec.json.decode(content, type=StoredObject)

    async def forget(self, execution_id: str) -> None:
        """Drop all slots of an execution; the objects stay."""
        folder = self._slot(execution_id, "").parent
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _slot(self, execution_id: str, name: str) -> Path:
        if not _ID.fullmatch(execution_id):
            raise NotFound(f"Execution not found: {execution_id[:80]}")
        # The name is the caller's: as a hash it can be no path.
        return self._folder / execution_id / hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
