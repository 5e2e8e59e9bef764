"""Plain data becomes objects, in any number of threads at once."""

from threading import Lock
from typing import Any, Final, TypeVar, cast

import msgspec

T = TypeVar("T")

_building: Final = Lock()
_built: Final[dict[object, Any]] = {}


def convert(data: object, kind: type[T]) -> T:
    """`msgspec.convert`, which builds what it has to know of a type as it meets it for the first time: a second thread
    that finds that half built ends the process, so each type is built while the others wait. Raises ValidationError."""
    known = _built.get(kind)
    if known is None:
        with _building:
            msgspec.json.Decoder(kind)
            # Kept by identity: an equal generic alias that is made anew would be built once more.
            known = _built.setdefault(kind, kind)
    return cast(T, msgspec.convert(data, known))
