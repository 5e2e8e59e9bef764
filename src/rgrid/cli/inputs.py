"""What `run` sends along: the files among the script's arguments, and the runtime that the script asks for."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from rgrid.cli.output import Usage
from rgrid.client.answers import Runtime

SCRIPT_BYTES_MAX: Final = 1_048_576
INPUTS_MAX: Final = 1000
COPIES_MAX: Final = INPUTS_MAX
# Endings by which people name files; a word such as `v1.2` or `example.com` is not meant to be one.
_ENDINGS: Final = re.compile(
    r"csv|tsv|psv|txt|md|log|json|jsonl|ndjson|geojson|xml|yaml|yml|toml|ini|cfg|conf|parquet|feather|"
    r"arrow|avro|orc|xlsx|xls|ods|zip|gz|bz2|xz|zst|tar|tgz|7z|sql|db|sqlite|py|js|mjs|ts|sh|r|ipynb|html|"
    r"css|png|jpg|jpeg|gif|svg|webp|tif|tiff|bmp|pdf|doc|docx|npy|npz|pkl|pickle|h5|hdf5|mat|dat|bin|wav|"
    r"mp3|mp4|ogg|pem"
)
_OPTION: Final = re.compile(r"(--?[A-Za-z][\w.-]*=)(.+)", re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\\]")
# By ending or interpreter: names to look for in the table of runtimes, then the language.
_BY_ENDING: Final = {
    ".py": "python",
    ".js": "node",
    ".mjs": "node",
    ".cjs": "node",
    ".sh": "bash",
    ".bash": "bash",
}
_LANGUAGES: Final = {
    "python": ("python",),
    "node": ("node", "javascript"),
    "nodejs": ("node", "javascript"),
    "bash": ("bash", "shell", "sh"),
    "sh": ("bash", "shell", "sh"),
}


class Mapped(NamedTuple):
    """The arguments as the script will get them, and the files that go with them, by their name over there."""

    args: list[str]
    files: dict[str, Path]


def read_script(path: Path) -> str:
    """The script's text, or the reason why it can't be sent."""
    if path.is_dir():
        raise Usage(f"{path} is a folder, not a script.", "rgrid run --help")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise Usage(f"There is no script {path}.", "rgrid run --help") from None
    except OSError as error:
        raise Usage(f"{path} can't be read: {error.strerror}.") from None
    if len(content) > SCRIPT_BYTES_MAX:
        raise Usage(f"{path} is larger than {SCRIPT_BYTES_MAX} bytes; give its data as files among the arguments.")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise Usage(f"{path} is not UTF-8 text.") from None
    if not text or "\0" in text:
        raise Usage(f"{path} is {'empty' if not text else 'not text'}.")
    return text


def map_arguments(words: Sequence[str], *, allow_missing: bool) -> Mapped:
    """Finds the files among a script's arguments, also behind a `--name=`; stops at a file that isn't there."""
    mapped = Mapped([], {})
    for word in words:
        option = _OPTION.fullmatch(word)
        prefix, value = (option[1], option[2]) if option else ("", word)
        # Behind `--name=` only what looks like a file counts: `--mode=fast` is no file, even if one is called so.
        is_candidate = _looks_like_a_path(value) if option else not word.startswith("-")
        if is_candidate and _is_file(value):
            mapped.args.append(prefix + add_file(mapped.files, Path(value)))
            continue
        if not allow_missing and is_candidate and _looks_like_a_path(value):
            raise _stop(word, value)
        mapped.args.append(word)
    return mapped


def runtime_for(path: Path, script: str, table: Sequence[Runtime]) -> str:
    """The runtime that the script's first line or its file's ending asks for."""
    interpreter = _interpreter(script)
    by_ending = _BY_ENDING.get(path.suffix.lower())
    wanted = interpreter or by_ending
    if wanted is None:
        raise Usage(f"Nothing in {path} says what runs it; name it with --runtime.", "rgrid runtimes")
    exact = [each for each in table if wanted == each.name or wanted in each.aliases]
    family = re.sub(r"[\d.]+$", "", wanted)
    languages = _LANGUAGES.get(family, (family,))
    same = sorted((each for each in table if each.language.lower() in languages), key=lambda each: not each.default)
    for each in [*exact, *same]:
        if each.available:
            return each.name
    raise Usage(
        f"{path} needs {wanted}, and no worker of this service has it; name another with --runtime.", "rgrid runtimes"
    )


def _interpreter(script: str) -> str | None:
    first = script.split("\n", 1)[0].strip()
    if not first.startswith("#!"):
        return None
    words = [word for word in first[2:].split() if not word.startswith("-") and "=" not in word]
    names = [PurePosixPath(word).name for word in words]
    if names[:1] == ["env"]:
        names = names[1:]
    return names[0] if names else None


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):
        # Too long for a path, or a NUL in it: text, then.
        return False


def _looks_like_a_path(text: str) -> bool:
    if not text or len(text) > 4096 or _CONTROL.search(text) or "://" in text:
        return False
    if text.startswith(("./", "../", "/", "~/")) or text.endswith("/"):
        return True
    first, *others = text.split("/")
    if others and first and Path(first).is_dir():
        return True
    stem, dot, ending = text.rpartition(".")
    return bool(dot and stem) and " " not in text and _ENDINGS.fullmatch(ending.lower()) is not None


def add_file(files: dict[str, Path], given: Path) -> str:
    """The name of a file over there: its relative path where that is safe, else its last part, made unique."""
    path = given.expanduser()
    relative = PurePosixPath(given.as_posix())
    safe = not relative.is_absolute() and ".." not in relative.parts and not str(given).startswith("~")
    wanted = _CONTROL.sub("_", str(relative if safe else PurePosixPath(path.name)))
    real = path.resolve()
    name = wanted
    for number in range(1, COPIES_MAX):
        if name not in files or files[name].resolve() == real:
            break
        pure = PurePosixPath(wanted)
        name = str(pure.with_name(f"{pure.stem}_{number}{pure.suffix}"))
    files[name] = path
    if len(files) > INPUTS_MAX:
        raise Usage(f"These are more than {INPUTS_MAX} files; put them into an archive.")
    return name


def _stop(word: str, value: str) -> Usage:
    if Path(value).expanduser().is_dir():
        return Usage(f"{value} is a folder; name the files in it, or put them into an archive.", "rgrid run --help")
    return Usage(
        f"{word} looks like a file, and there is none of that name here. Nothing was sent.",
        "rgrid run --allow-missing SCRIPT … (if it is just text, or a file that the script makes)",
    )
