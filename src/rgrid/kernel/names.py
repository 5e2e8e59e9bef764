"""Names that people give to things: their form, and the words that are paths of the interface."""

import re
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)
RESERVED: Final = frozenset(
    {"runs", "stats", "channels", "rules", "silences", "deliveries", "cache", "connections", "fetches", "preview"}
    | {"preview-next", "definitions", "validate"}
)
NAME_HELP: Final = "A name is letters, digits, dots, hyphens and underscores, at most 200, a letter or a digit first."


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None
