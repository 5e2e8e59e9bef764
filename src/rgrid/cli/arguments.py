"""What values on the command line look like: durations, sizes, pairs. Each function raises what argparse expects."""

import argparse
import re
from typing import Final

_UNITS_S: Final = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_UNITS_MB: Final = {"": 1, "m": 1, "mb": 1, "g": 1024, "gb": 1024}
# Options of `run` without a value; every other option takes the next word, unless it has its value behind a `=`.
RUN_FLAGS: Final = frozenset(
    {
        "--network",
        "--remote-only",
        "--detach",
        "--dry-run",
        "--no-cache",
        "--no-requirements",
        "--allow-missing",
        "--fail-fast",
        "--flat",
        "--watch",
        "--json",
        "--help",
        "-h",
    }
)
SCRIPT_ENDINGS: Final = (".py", ".js", ".mjs", ".cjs", ".sh", ".bash")
PARALLEL_MAX: Final = 1000
_NUMBER: Final = re.compile(r"(\d+)\s*([a-z]*)", re.IGNORECASE)


def seconds(text: str) -> int:
    """`90`, `90s`, `5m`, `1h`."""
    return _scaled(text, _UNITS_S, "a duration such as 90, 5m or 1h")


def megabytes(text: str) -> int:
    """`512`, `512m`, `2g`."""
    return _scaled(text, _UNITS_MB, "a size such as 512, 512m or 2g")


def count(text: str) -> int:
    """A whole number above zero."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r}")
    return int(text)


def parallel(text: str) -> int:
    """How many at a time, or how many failures."""
    wanted = count(text)
    if wanted > PARALLEL_MAX:
        raise argparse.ArgumentTypeError(f"must be at most {PARALLEL_MAX}")
    return wanted


def tail(text: str) -> int:
    """How many lines from the end; the service gives 1,000 at most."""
    lines = count(text)
    if lines > 1000:
        raise argparse.ArgumentTypeError("must be at most 1000; leave it out for the whole log")
    return lines


def pair(text: str) -> tuple[str, str]:
    """`NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, not {text!r}")
    return name, value


def reasons(text: str) -> list[str | int]:
    """`timeout,75`: reasons of failure and exit codes."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise argparse.ArgumentTypeError("must name reasons or exit codes, such as timeout,75")
    return [int(word) if word.isdecimal() else word for word in words]


def script_split(words: list[str]) -> tuple[list[str], list[str]]:
    """The options of `run`, and the script with all that belongs to it."""
    position = 0
    while position < len(words):
        word = words[position]
        if word == "--":
            return words[:position], words[position + 1 :]
        if not word.startswith("-") or word == "-":
            break
        if word == "--batch":
            position += 1 + _paths(words[position + 1 :])
        else:
            position += 1 if "=" in word or word in RUN_FLAGS else 2
    return words[:position], words[position:]


def _paths(words: list[str]) -> int:
    """How many of the words after `--batch` it takes: one glob, or all paths up to the next option or the script."""
    if not words or any(sign in words[0] for sign in "*?["):
        return 1
    taken = 1
    while taken < len(words) and not words[taken].startswith("-") and not words[taken].endswith(SCRIPT_ENDINGS):
        taken += 1
    return taken


def _scaled(text: str, units: dict[str, int], wanted: str) -> int:
    match = _NUMBER.fullmatch(text.strip())
    if match is None or match[2].lower() not in units:
        raise argparse.ArgumentTypeError(f"must be {wanted}, not {text!r}")
    return int(match[1]) * units[match[2].lower()]
