"""Which interpreters this machine has. Found by running them: a name on PATH may be a shim that starts nothing."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from rgrid.kernel.errors import Invalid

Family = Literal["python", "node", "bash", "other"]
ENVIRONMENT: Final = "/rgrid/environment"  # where the box shows the packages of a script
_PROBE_TIMEOUT_S: Final = 20
_CANDIDATES_MAX: Final = 64
_ASK_PYTHON: Final = (
    "import sys; print(sys.version_info[0], sys.version_info[1], sys.version_info[2],"
    " sys.implementation.name); print(sys.base_prefix); print(sys.base_exec_prefix)"
)
_CONFIGURED_NAME: Final = re.compile(r"[a-z][a-z0-9_+-]{0,31}(:[a-z0-9][a-z0-9._+-]{0,31})?")
_OWN_NAME: Final = re.compile(r"(python|py|node|nodejs|bash|sh|shell)[0-9.-]*")
_PYTHON_NAME: Final = re.compile(r"python3\.\d+")


class Interpreter(msgspec.Struct, frozen=True, kw_only=True):
    """`program` is the real file, `prefixes` the folders that it needs beside /usr, at the same paths; `arguments`
    stand before the script."""

    runtime: str
    family: Family
    version: tuple[int, ...]
    program: str
    prefixes: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


def discover(search_path: list[str], *, only_public: bool = False) -> list[Interpreter]:
    """Every usable interpreter, best one per runtime, Pythons first and newest last. Blocking: about 30 ms each.
    `only_public` leaves out those that another user of this machine could not start."""
    found: dict[str, Interpreter] = {}
    for program in _python_candidates(search_path):
        if only_public and not _is_public(program):
            continue
        interpreter = _ask_python(program)
        if interpreter is None:
            continue
        known = found.get(interpreter.runtime)
        if known is None or interpreter.version > known.version:
            found[interpreter.runtime] = interpreter
    pythons = sorted(found.values(), key=lambda one: one.version)
    return [*_with_default_alias(pythons), *_others(search_path)]


def resolve(runtime: str, interpreters: list[Interpreter]) -> Interpreter | None:
    """By canonical name or alias."""
    wanted = runtime.strip().lower()
    for one in interpreters:
        if wanted == one.runtime or wanted in one.aliases:
            return one
    return None


def _is_public(program: Path) -> bool:
    return all(path.stat().st_mode & 0o001 for path in (program, *program.parents))


def _python_candidates(search_path: list[str]) -> list[Path]:
    folders = [Path(folder) for folder in search_path if folder]
    folders += [Path("/usr/local/bin"), Path("/usr/bin")]
    for home in (Path.home(), Path("/opt")):
        for pattern in (".pyenv/versions/*/bin", ".local/share/uv/python/*/bin", "python*/bin"):
            folders += sorted(home.glob(pattern)) if _may_list(home) else []
    programs = [Path(sys._base_executable)] if hasattr(sys, "_base_executable") else []
    for folder in folders:
        if folder.name == "shims" or not _may_list(folder):
            continue
        programs += [path for path in sorted(folder.glob("python3.*")) if _PYTHON_NAME.fullmatch(path.name)]
    unique = dict.fromkeys(Path(os.path.realpath(path)) for path in programs if os.access(path, os.X_OK))
    return list(unique)[:_CANDIDATES_MAX]


def _may_list(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)


def _run(argv: list[str]) -> list[str] | None:
    try:
        done = subprocess.run(
            argv,
            env={"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").splitlines() if done.returncode == 0 else None


def _ask_python(program: Path) -> Interpreter | None:
    lines = _run([str(program), "-I", "-S", "-c", _ASK_PYTHON])
    if lines is None or len(lines) != 3:
        return None
    major, minor, patch, implementation = lines[0].split()
    if implementation != "cpython":
        return None
    prefixes = dict.fromkeys(os.path.realpath(line) for line in lines[1:])
    short = f"{major}.{minor}"
    return Interpreter(
        runtime=f"python:{short}",
        family="python",
        version=(int(major), int(minor), int(patch)),
        program=str(program),
        prefixes=tuple(prefix for prefix in prefixes if not _in_usr(prefix)),
        aliases=(f"python{short}", f"python-{short}", f"py{major}{minor}", f"python:{short}.{patch}"),
    )


def _in_usr(path: str) -> bool:
    return path == "/usr" or path.startswith("/usr/")


def _with_default_alias(pythons: list[Interpreter]) -> list[Interpreter]:
    """`python` is 3.11, as the contract has it, or the newest one where there is no 3.11."""
    if not pythons:
        return []
    default = next((one for one in pythons if one.version[:2] == (3, 11)), pythons[-1])
    aliases = (*default.aliases, "python", "python3", "py")
    return [msgspec.structs.replace(one, aliases=aliases) if one is default else one for one in pythons]


def _others(search_path: list[str]) -> list[Interpreter]:
    found: list[Interpreter] = []
    node = shutil.which("node", path=os.pathsep.join([*search_path, "/usr/local/bin", "/usr/bin"]))
    lines = _run([node, "--version"]) if node else None
    if node and lines and (match := re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)", lines[0].strip())):
        program = os.path.realpath(node)
        major = match.group(1)
        prefix = () if _in_usr(program) else (str(Path(program).parent.parent),)
        found.append(
            Interpreter(
                runtime=f"node:{major}",
                family="node",
                version=tuple(int(part) for part in match.groups()),
                program=program,
                prefixes=prefix,
                aliases=("node", f"node{major}", f"node-{major}", "nodejs"),
            )
        )
    for bash in ("/usr/bin/bash", "/bin/bash", "/usr/local/bin/bash"):
        lines = _run([bash, "-c", 'echo "${BASH_VERSINFO[0]} ${BASH_VERSINFO[1]} ${BASH_VERSINFO[2]}"'])
        if lines:
            version = tuple(int(part) for part in lines[0].split())
            program = os.path.realpath(bash)
            found.append(
                Interpreter(
                    runtime="bash",
                    family="bash",
                    version=version,
                    program=program,
                    prefixes=() if _in_usr(program) else (program,),
                    aliases=("sh", f"bash:{version[0]}", f"bash{version[0]}"),
                )
            )
            break
    return found


_CLEAN: Final = "python"


def make_clean(interpreter: Interpreter, folder: Path) -> None:
    """An empty virtual environment per Python: scripts find the standard library and nothing that happens to be
    installed beside it, which also starts three times faster on a crowded interpreter."""
    place = _clean_folder(interpreter, folder)
    version = ".".join(map(str, interpreter.version[:2]))
    (place / "lib" / f"python{version}" / "site-packages").mkdir(parents=True, exist_ok=True)
    (place / "bin").mkdir(exist_ok=True)
    home = Path(interpreter.program).parent
    (place / "pyvenv.cfg").write_text(
        f"home = {home}\ninclude-system-site-packages = false\nversion = {'.'.join(map(str, interpreter.version))}\n"
    )
    for name in ("python", "python3", f"python{version}"):
        link = place / "bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(interpreter.program)


def program(interpreter: Interpreter, folder: Path, boxed: bool, environment: Path | None = None) -> str:
    """The program as a script's process sees it. `environment` takes the place of the empty one."""
    if interpreter.family != "python":
        return interpreter.program
    if environment is not None:
        return f"{ENVIRONMENT if boxed else environment}/bin/python"
    place = Path(inside(interpreter)) if boxed else _clean_folder(interpreter, folder)
    return str(place / "bin" / "python")


def binds(interpreter: Interpreter, folder: Path, environment: Path | None = None) -> tuple[tuple[str, str], ...]:
    """What the box must show beside /usr: (source, target)."""
    prefixes = [(prefix, prefix) for prefix in interpreter.prefixes]
    if environment is not None and interpreter.family == "python":
        prefixes.append((str(environment), ENVIRONMENT))
    elif interpreter.family == "python":
        prefixes.append((str(_clean_folder(interpreter, folder)), inside(interpreter)))
    return tuple(prefixes)


def environment(interpreter: Interpreter, program: str) -> dict[str, str]:
    """What the interpreter needs: lines as they are printed, no compiled files among the outputs, and the inputs in
    /work importable like the files beside a script."""
    path = "/usr/local/bin:/usr/bin:/bin"
    env = {"PATH": f"{Path(program).parent}:{path}" if not program.startswith("/usr/bin/") else path}
    if interpreter.family == "python":
        env.update(PYTHONUNBUFFERED="1", PYTHONDONTWRITEBYTECODE="1", PYTHONPATH="/work")
    return env


def inside(interpreter: Interpreter) -> str:
    """Where the box shows the clean environment."""
    return f"/rgrid/{_CLEAN}{'.'.join(map(str, interpreter.version[:2]))}"


def _clean_folder(interpreter: Interpreter, folder: Path) -> Path:
    return folder / f"{_CLEAN}{'.'.join(map(str, interpreter.version[:2]))}"


def identity(interpreter: Interpreter) -> str | None:
    """Another text for another interpreter, also after an update in place; None when it takes no packages."""
    if interpreter.family != "python":
        return None
    status = Path(interpreter.program).stat()
    version = ".".join(map(str, interpreter.version))
    return f"{interpreter.runtime} {version} {interpreter.program} {status.st_size} {status.st_mtime_ns}"


def configured(given: Mapping[str, Sequence[str]]) -> list[Interpreter]:
    """Runtimes by configuration: name -> program and what stands before the script. Raises Invalid."""
    found = []
    for name, command in given.items():
        said = f"RGRID_RUNTIMES: {name!r}"
        if not _CONFIGURED_NAME.fullmatch(name) or _OWN_NAME.fullmatch(name.partition(":")[0]):
            raise Invalid(f"{said} is no name for a runtime: a word in lower case, not python, node or bash, and after "
                          "a colon perhaps a version.")  # fmt: skip
        if not command or not command[0].startswith("/"):
            raise Invalid(f"{said} needs a list that begins with the absolute path of a program.")
        program = os.path.realpath(command[0])
        if not os.path.isfile(program) or not os.access(program, os.X_OK):  # noqa: PTH113
            raise Invalid(f"{said}: {command[0]} is no program that can be started here.")
        if _in_usr(program) and _in_usr(command[0]):
            program = command[0]  # a program may look at the name that it was started by
        folder = Path(program).parent
        prefix = str(folder.parent) if folder.name == "bin" and folder.parent != Path("/") else program
        found.append(
            Interpreter(
                runtime=name,
                family="other",
                version=(),
                program=program,
                prefixes=() if _in_usr(program) else (prefix,),
                arguments=tuple(command[1:]),
            )
        )
    return found
