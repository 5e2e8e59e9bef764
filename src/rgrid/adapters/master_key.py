"""The key that wraps all other keys: from the settings, else from a file in the data folder that is made once."""

import base64
import binascii
import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Final

import msgspec

from rgrid.adapters.durable import write_whole
from rgrid.settings import BadSetting, Settings

KEY_BYTES: Final = 32
KEYS_MAX: Final = 8
FILE_NAME: Final = "encryption.key"
_VARIABLE: Final = "RGRID_ENCRYPTION_KEY"


class MasterKeys(msgspec.Struct, frozen=True):
    """The present key first, then earlier ones, which still open what they have sealed."""

    keys: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"MasterKeys({len(self.keys)} keys)"

    def derived(self, purpose: str) -> list[bytes]:
        """For each key another one that serves one purpose only, in the same order."""
        return [hmac.digest(key, f"rgrid {purpose}".encode(), hashlib.sha256) for key in self.keys]


def master_keys(settings: Settings) -> MasterKeys:
    """The keys of this installation. Raises BadSetting when there is none: nothing is ever kept in clear instead."""
    if settings.encryption_key:
        parts = [part.strip() for part in settings.encryption_key.split(",")]
        if len(parts) > KEYS_MAX:
            raise _bad(f"holds more than {KEYS_MAX} keys")
        return MasterKeys(tuple(_parsed(part) for part in parts))
    if settings.database_url:
        raise _bad(
            "is needed when RGRID_DATABASE_URL is set, because all processes must share it: "
            "make one with `openssl rand -hex 32`"
        )
    return MasterKeys((_from_file(settings.data_dir / FILE_NAME),))


def _from_file(path: Path) -> bytes:
    try:
        try:
            write_whole(path, secrets.token_hex(KEY_BYTES).encode() + b"\n", replace=False)
        except FileExistsError:
            pass
        if path.stat().st_mode & 0o077:
            raise _bad(f"stands in {path}, which others can read: run `chmod 600 {path}`")
        return _parsed(path.read_text().strip())
    except (OSError, UnicodeDecodeError) as problem:
        raise _bad(f"can't be read from {path} ({problem})") from None


def _parsed(text: str) -> bytes:
    """32 bytes written in hex or base64. The message of the error doesn't repeat them."""
    try:
        key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise _bad("must be 32 bytes in hex or base64; make one with `openssl rand -hex 32`")
    return key


def _bad(problem: str) -> BadSetting:
    return BadSetting(f"{_VARIABLE}: {problem}.", fields=[(_VARIABLE, problem)])
