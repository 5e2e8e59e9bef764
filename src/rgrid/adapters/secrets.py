"""References to secrets: `env:NAME`, `file:NAME`, `vault:PATH[#FIELD]`, `secret:BACKEND:KEY`.

A reference is checked when it is written down and resolved when it is used; values are kept for a minute at most.
"""

import re
from collections import OrderedDict
from pathlib import Path
from typing import Final

from rgrid.kernel.clock import monotonic_ms
from rgrid.kernel.errors import Invalid
from rgrid.settings import Settings, inherited

CACHED_FOR_MAX_MS: Final = 60_000
CACHED_MAX: Final = 1000
VALUE_BYTES_MAX: Final = 64 * 1024
REFERENCE_MAX: Final = 500
_FORMS: Final = {
    "env": re.compile(r"[A-Za-z_][A-Za-z0-9_]*"),
    "file": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*"),
    "vault": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*(#[A-Za-z0-9_.-]+)?"),
    "secret": re.compile(r"[A-Za-z0-9_-]+:[A-Za-z0-9_][A-Za-z0-9_./-]*"),
}


class BadReference(Invalid):
    """A text that can be no reference to a secret."""

    code = "bad_secret_ref"


class SecretMissing(Invalid):
    """A good reference that leads to no value here. Says what was tried, never a value."""

    code = "configuration"


class Secrets:
    """Resolves references by the rules of this installation."""

    def __init__(self, settings: Settings) -> None:
        self._env_prefix = settings.secret_env_prefix
        self._folder = settings.secrets_dir
        self._cached: OrderedDict[str, tuple[int, str]] = OrderedDict()

    def check(self, reference: str) -> None:
        """Raise BadReference for what could never be resolved."""
        kind, colon, rest = reference.partition(":")
        form = _FORMS.get(kind)
        if form is None or not colon:
            raise BadReference("A secret reference begins with env:, file:, vault: or secret:.")
        if len(reference) > REFERENCE_MAX or not form.fullmatch(rest) or ".." in rest:
            raise BadReference(f"The part after {kind}: is no name that such a reference can have.")
        if kind == "env" and not rest.startswith(self._env_prefix):
            raise BadReference(f"env: references read only variables that begin with {self._env_prefix}.")

    def resolve(self, reference: str) -> str:
        """The value. Raises BadReference or SecretMissing."""
        self.check(reference)
        cached = self._cached.get(reference)
        if cached and monotonic_ms() - cached[0] < CACHED_FOR_MAX_MS:
            return cached[1]
        kind, _, rest = reference.partition(":")
        if kind == "env":
            value = self._from_environment(reference, rest)
        elif kind == "file":
            value = self._from_file(reference, rest)
        else:
            backend = "vault" if kind == "vault" else rest.partition(":")[0]
            raise SecretMissing(f"Secret {reference} can't be resolved: no backend {backend} is configured.")
        self._cached[reference] = (monotonic_ms(), value)
        self._cached.move_to_end(reference)
        while len(self._cached) > CACHED_MAX:
            self._cached.popitem(last=False)
        return value

    def _from_environment(self, reference: str, name: str) -> str:
        value = inherited(name).get(name)
        if value is None:
            raise SecretMissing(f"Secret {reference} not found; tried: environment.")
        return value

    def _from_file(self, reference: str, name: str) -> str:
        """The content without its last newline, of a file in the one folder: links must not lead out of it."""
        tried = f"tried: files in {self._folder}"
        try:
            path = (self._folder / name).resolve(strict=True)
            if not path.is_relative_to(self._folder.resolve()) or not path.is_file():
                raise SecretMissing(f"Secret {reference} is no file inside its folder; {tried}.")
            content = _read(path)
        except (OSError, RuntimeError):
            raise SecretMissing(f"Secret {reference} not found; {tried}.") from None
        if len(content) > VALUE_BYTES_MAX:
            raise SecretMissing(f"Secret {reference} is larger than {VALUE_BYTES_MAX} bytes; {tried}.")
        try:
            return content.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise SecretMissing(f"Secret {reference} is no UTF-8 text; {tried}.") from None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(VALUE_BYTES_MAX + 1)
