"""One sentence of advice for the failures that everybody meets, from how the script ended and what stderr said last."""

import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

NAME_CHARACTERS_MAX: Final = 100

# Modules whose package has another name.
PACKAGES: Final = {
    "bs4": "beautifulsoup4",
    "Crypto": "pycryptodome",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "github": "PyGithub",
    "jwt": "PyJWT",
    "magic": "python-magic",
    "MySQLdb": "mysqlclient",
    "PIL": "pillow",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What the advice may depend on. `stderr` holds the last lines, oldest first."""

    why: str
    stderr: Sequence[str]
    runtime: str
    timeout_s: int
    memory_mb: int
    network: bool


Advice = Callable[[re.Match[str], Failure], str]


def hint_for(failure: Failure) -> str | None:
    """The last line that says something known wins: the end of a traceback is its cause."""
    if failure.why == "timeout":
        return (
            f"The script needed more than {failure.timeout_s} s: raise timeout_seconds or split the work into a batch."
        )
    if failure.why == "out_of_memory":
        return (
            f"The script needed more than {failure.memory_mb} MB: raise memory_mb or work through the data in pieces."
        )
    if failure.why == "disk_quota":
        return "The script filled its working directory: delete intermediate files or write less."
    for line in reversed(failure.stderr):
        for pattern, advice in _RULES:
            if match := pattern.search(line):
                return advice(match, failure)
    return None


def _name(match: re.Match[str]) -> str:
    name = match.group(1).strip()
    return name if len(name) <= NAME_CHARACTERS_MAX else name[:NAME_CHARACTERS_MAX] + "…"


def _module(match: re.Match[str], failure: Failure) -> str:
    module = _name(match)
    package = PACKAGES.get(module.partition(".")[0])
    called = f", whose package is called '{package}'," if package else ""
    return f"The module '{module}'{called} is not installed in {failure.runtime}: add it to the script's requirements."


def _node_module(match: re.Match[str], failure: Failure) -> str:
    module = _name(match)
    if module.startswith((".", "/")):
        return f"The module '{module}' is not there: upload it as an input beside the script's data."
    return f"The module '{module}' is not installed in {failure.runtime}: upload it as an input or bundle the script."


def _import_name(match: re.Match[str], failure: Failure) -> str:
    return (
        f"There is no '{_name(match)}' in that module: check its version, or whether a file of yours has the same name."
    )


def _syntax(match: re.Match[str], failure: Failure) -> str:
    return f"{failure.runtime} can't read the script: mend the line that the error names, or choose another runtime."


def _file(match: re.Match[str], failure: Failure) -> str:
    return f"The file '{_name(match)}' is not there: a script sees only its inputs, by their names, in /work."


def _permission(match: re.Match[str], failure: Failure) -> str:
    return "The script may write only in /work and /tmp: use a path there."


def _memory(match: re.Match[str], failure: Failure) -> str:
    return f"The script ran out of its {failure.memory_mb} MB of memory: raise memory_mb or work in pieces."


def _connection(match: re.Match[str], failure: Failure) -> str:
    if not failure.network:
        return "The script has no network: submit it with network set to true."
    return "Nothing accepted the connection: check host and port; localhost is the box itself, not your machine."


def _slow_answer(match: re.Match[str], failure: Failure) -> str:
    if not failure.network:
        return "The script has no network: submit it with network set to true."
    return "Something the script waited for did not answer in time: check its address, or wait longer in the script."


def _disk(match: re.Match[str], failure: Failure) -> str:
    return (
        "The disk of the box is full: /tmp holds 100 MiB, so write large files in /work, and delete what you need not."
    )


_RULES: Final[list[tuple[re.Pattern[str], Advice]]] = [
    (re.compile(r"(?:ModuleNotFoundError|ImportError): No module named '?([\w.]+)'?"), _module),
    (re.compile(r"(?:Error: Cannot find module|Cannot find package) '([^']+)'"), _node_module),
    (re.compile(r"ImportError: cannot import name '([^']+)'"), _import_name),
    (re.compile(r"does not provide an export named '([^']+)'"), _import_name),
    (re.compile(r"^\s*(?:SyntaxError|IndentationError|TabError): "), _syntax),
    (re.compile(r"FileNotFoundError: .*?: '([^']+)'"), _file),
    (re.compile(r"Error: ENOENT: .*'([^']+)'"), _file),
    (re.compile(r"No such file or directory: '?([^']+)'?"), _file),
    (re.compile(r"PermissionError|\bEACCES\b|\bEROFS\b|Permission denied|Read-only file system"), _permission),
    (re.compile(r"^\s*(?:\w+\.)*_?(?:Array)?MemoryError\b|heap out of memory|Cannot allocate memory"), _memory),
    (re.compile(r"No space left on device|\bENOSPC\b|Disk quota exceeded|\bEDQUOT\b|File too large"), _disk),
    (
        re.compile(
            r"ConnectionRefusedError|ECONNREFUSED|Connection refused|Network is unreachable|ENETUNREACH|"
            r"Temporary failure in name resolution|Name or service not known|EAI_AGAIN|ENOTFOUND"
        ),
        _connection,
    ),
    (re.compile(r"TimeoutError|ETIMEDOUT|[Tt]imed out"), _slow_answer),
]
