"""Versions of resources in requests: ETag, If-Match, If-None-Match, and `as_of`."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rgrid.kernel.errors import Invalid, Malformed, StaleVersion
from rgrid.web.decoding import parse_moment

_TAG: Final = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"', re.ASCII)
_TAGS: Final = re.compile(r'\s*(?:W/)?"[\x21\x23-\x7e]*"\s*(?:,\s*(?:W/)?"[\x21\x23-\x7e]*"\s*)*', re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
ANY_VERSION: Final = -1


@dataclass(frozen=True, slots=True)
class AsOf:
    """The moment or the log position that an answer is asked for; exactly one is set."""

    moment: datetime | None = None
    position: int | None = None


def etag_of(version: int | str) -> str:
    """The ETag of a version."""
    return f'"{version}"'


def if_match_version(header: str | None) -> int | None:
    """The version that If-Match asks for: None without the header, ANY_VERSION for `*`.

    A tag that no version of ours looks like can't match anything, so it is stale rather than malformed.
    """
    if header is None:
        return None
    if header.strip() == "*":
        return ANY_VERSION
    if not _TAGS.fullmatch(header):
        raise Invalid('If-Match must be an ETag such as "3", or *.', code="invalid_if_match")
    tags = _TAG.findall(header)
    if len(tags) != 1 or header.strip().startswith("W/") or not _NUMBER.fullmatch(tags[0]):
        raise StaleVersion("If-Match names no version of this resource.")
    return int(tags[0])


def check_if_match(asked: int | None, actual: int) -> None:
    """Raises StaleVersion unless the version is the one that If-Match asked for."""
    if asked is not None and asked != ANY_VERSION and asked != actual:
        raise StaleVersion(f"The resource is at version {actual}, not {asked}.")


def not_modified(if_none_match: str | None, etag: str) -> bool:
    """Whether the client holds this version already (weak comparison, RFC 9110)."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    return etag.strip('"') in _TAG.findall(if_none_match)


def parse_as_of(text: str, now: datetime) -> AsOf:
    """A position or a time. Raises Invalid for neither, and for a time that is still to come."""
    if _NUMBER.fullmatch(text):
        return AsOf(position=int(text))
    moment = parse_moment(text)
    if moment is None:
        raise Invalid("as_of must be an RFC 3339 time or an event position.", code="invalid_as_of")
    if moment > now:
        raise Invalid("as_of is in the future.", code="as_of_out_of_range")
    return AsOf(moment=moment)


def position_header(name: str, text: str | None) -> int | None:
    """A header that holds a log position. Raises Malformed for anything else."""
    if text is None:
        return None
    if not _NUMBER.fullmatch(text.strip()):
        raise Malformed(f"{name} must be an integer of at least 0.", [(f"header.{name}", "Expected an integer >= 0.")])
    return int(text)
