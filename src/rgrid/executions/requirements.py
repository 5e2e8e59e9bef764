"""What packages a Python script needs: the lines of a requirements.txt and the metadata inside the script (PEP 723).

Pure: a text comes in, lines in one spelling come out, so that equal needs are equal texts. Higher up, one side checks
what is submitted with it, and the other names environments by it.
"""

import re
import tomllib
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

LINES_MAX: Final = 2000
PATCHES_MAX: Final = 100  # patch releases of one minor version that a `requires-python` may mean
_COMMENT: Final = re.compile(r"(^|\s)#.*$")
_HASH: Final = re.compile(r"\s--hash[= ](\S+)")
_HASH_VALUE: Final = re.compile(r"(sha256|sha384|sha512):[0-9a-f]+")
_OPTIONS: Final = {
    "-i": "--index-url", "--index-url": "--index-url", "--extra-index-url": "--extra-index-url",
    "-f": "--find-links", "--find-links": "--find-links",
    "--no-binary": "--no-binary", "--only-binary": "--only-binary",
}  # fmt: skip
_ADDRESSES: Final = frozenset({"--index-url", "--extra-index-url", "--find-links"})
_FILES: Final = ("-r", "--requirement", "-c", "--constraint", "-e", "--editable")
_SCHEMES: Final = frozenset({"http", "https", "git+https", "git+http"})


class BadRequirements(ValueError):
    """A line that can't be followed; the message says which and why."""


class Inline(msgspec.Struct, frozen=True, kw_only=True):
    """The `script` block of a script, as far as it concerns its packages."""

    dependencies: list[str] = []
    requires_python: str | None = None


def lines_of(text: str) -> list[str]:
    """The lines that mean something, each in its one spelling, in their order and each once. Raises BadRequirements."""
    joined = text.replace("\r\n", "\n").replace("\\\n", " ").split("\n")
    if len(joined) > LINES_MAX:
        raise BadRequirements(f"more than {LINES_MAX} lines")
    found: dict[str, None] = {}
    for number, raw in enumerate(joined, 1):
        line = _COMMENT.sub("", raw).strip()
        if line:
            try:
                found[_option(line) if line.startswith("-") else _requirement(line)] = None
            except BadRequirements as problem:
                raise BadRequirements(f"line {number}, {line[:100]!r}: {problem}") from None
    return list(found)


def _requirement(line: str) -> str:
    hashes = sorted(_HASH.findall(line))
    bare = _HASH.sub("", line).strip()
    if any(not _HASH_VALUE.fullmatch(value) for value in hashes):
        raise BadRequirements("a hash is sha256:… in lower-case hex digits")
    if " --" in bare:
        raise BadRequirements("of the options behind a package only --hash is known")
    if bare.startswith((".", "/", "~", "file:")) or ("@" not in bare and bare.endswith((".whl", ".tar.gz"))):
        raise BadRequirements("a path on your machine; only packages of an index or an https address can be installed")
    try:
        wanted = Requirement(bare)
    except InvalidRequirement as problem:
        raise BadRequirements(str(problem).split("\n", 1)[0]) from None
    if wanted.url is not None:
        _check_address(wanted.url)
    wanted.name = canonicalize_name(wanted.name)
    return " ".join([str(wanted), *(f"--hash={value}" for value in hashes)])


def _option(line: str) -> str:
    name, _, value = line.replace("=", " ", 1).partition(" ")
    value = value.strip()
    if name in _FILES or line.startswith(("-r", "-c", "-e")):
        raise BadRequirements("names another file, and that is not sent along; write its lines here")
    if name == "--require-hashes":
        return name
    if name not in _OPTIONS or not value:
        raise BadRequirements("is no option that is known here")
    if _OPTIONS[name] in _ADDRESSES:
        _check_address(value)
    return f"{_OPTIONS[name]} {value}"


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
    except ValueError:
        raise BadRequirements("is no address") from None
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise BadRequirements("only https addresses can be reached from the grid")


def inline(script: str) -> Inline | None:
    """The script's own metadata; None when it has none. Raises BadRequirements."""
    blocks = list(_blocks(script.replace("\r\n", "\n").split("\n")))
    if not blocks:
        return None
    if len(blocks) > 1:
        raise BadRequirements("there are two blocks of inline metadata called script")
    try:
        found: dict[str, Any] = tomllib.loads(blocks[0])
    except tomllib.TOMLDecodeError as problem:
        raise BadRequirements(f"the inline metadata is no TOML: {problem}") from None
    dependencies, python = found.get("dependencies", []), found.get("requires-python")
    if not isinstance(dependencies, list) or not all(isinstance(one, str) for one in dependencies):
        raise BadRequirements("dependencies of the inline metadata must be a list of texts")
    if python is not None and not isinstance(python, str):
        raise BadRequirements("requires-python of the inline metadata must be a text")
    if any("\n" in one or one.lstrip().startswith(("-", "#")) for one in dependencies):
        raise BadRequirements("a dependency of the inline metadata is one package, without options")
    return Inline(dependencies=dependencies, requires_python=python)


def _blocks(lines: list[str]) -> Iterable[str]:
    """The content of each `script` block: it ends at the last closing line of an unbroken run of comments."""
    at = 0
    while at < len(lines):
        if lines[at] != "# /// script":
            at += 1
            continue
        content: list[str] = []
        closed: int | None = None
        at += 1
        while at < len(lines) and (lines[at] == "#" or lines[at].startswith("# ")):
            if lines[at] == "# ///":
                closed = len(content)
            content.append(lines[at][2:])
            at += 1
        if closed is not None:
            yield "\n".join(content[:closed])


def fits(requires_python: str, minor_version: str) -> bool:
    """Whether some release of this minor version, such as 3.11, is meant. Raises BadRequirements."""
    try:
        wanted = SpecifierSet(requires_python)
    except InvalidSpecifier:
        raise BadRequirements(f"requires-python is no version specifier: {requires_python[:100]!r}") from None
    return any(wanted.contains(f"{minor_version}.{patch}") for patch in range(PATCHES_MAX))


def merged(requirements: str | None, dependencies: list[str]) -> str | None:
    """One text of both: what was given, then what only the script itself asks for. None when nothing is needed.
    Raises BadRequirements."""
    given = requirements or ""
    known = set(lines_of(given))
    more = [line for line in lines_of("\n".join(dependencies)) if line not in known]
    if not more:
        return given if known else None
    head = f"{given.rstrip()}\n" if given.strip() else ""
    return head + "# from the script itself\n" + "".join(f"{line}\n" for line in more)
