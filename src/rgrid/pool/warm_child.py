"""A script in a copy of a warm interpreter: what a forked child of `box_host.py` does before the script's first line.

Three processes: the guard outside waits and reports, the first process of the new pid namespace builds the box and
reaps, the third one enters its control groups meanwhile and becomes the script. Runs alone inside the outer box, like
`box_host.py`.
"""
# ruff: noqa: PTH102, PTH103, PTH119, PTH120, PTH211 (a fresh interpreter has not imported pathlib)

import _socket
import ctypes
import fcntl
import os
import resource
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any

    from rgrid.pool.box_limits import drop_user, set_limits
else:
    import _signal

    from box_limits import drop_user, set_limits

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 1, 4, 24, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CAPABILITIES_MAX = 64
CAP_VERSION = 0x20080522
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
# statvfs says how a mount is mounted; in a namespace of our own a remount may not drop any of these.
KEPT_FLAGS = {8: MS_NOEXEC, 1024: 1024, 2048: 2048, 4096: 1 << 21}
ROOT = "/rgrid/root"  # an empty folder of the outer box
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
FAILED = 125

libc = ctypes.CDLL(None, use_errno=True)
libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]


def check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    result = libc.mount(os.fsencode(source), os.fsencode(target), kind.encode(), flags, options.encode())
    check(result, f"mount {kind or 'bind'} on {target}")


def bind(source: str, target: str, read_only: bool) -> None:
    """What was read-only outside stays so by itself."""
    mount(source, target, "", MS_BIND | MS_REC)
    if read_only:
        seal(target)


def seal(target: str) -> None:
    have = os.statvfs(target).f_flag
    if have & MS_RDONLY and have & MS_NOSUID:
        return
    kept = sum(flag for bit, flag in KEPT_FLAGS.items() if have & bit)
    mount("", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | kept)


def guard(payload: "dict[str, Any]", stdio: "list[int]", entrances: "list[int]", report: int) -> "dict[str, Any]":
    """Leave the machine's namespaces, wait for the box, report as bubblewrap does. Returns in the script's process
    only, with what it shall run."""
    drop_user(payload["uid"])
    # Only so may this process write its own map of users; it holds nothing of any other job.
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, _signal.SIGKILL, 0, 0, 0)
    uid, gid = os.getuid(), os.getgid()
    spaces = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS
    if not payload["network"]:
        spaces |= CLONE_NEWNET
    check(libc.unshare(spaces), "unshare")
    write("/proc/self/setgroups", "deny")
    write("/proc/self/gid_map", f"{payload['box_uid']} {gid} 1")
    write("/proc/self/uid_map", f"{payload['box_uid']} {uid} 1")
    started, starting = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(started)
        os.close(report)
        return first_process(payload, stdio, entrances, starting)
    for fd in (*stdio, *entrances, starting):
        os.close(fd)
    os.write(report, b'{"child-pid": %d, ' % first)
    _, status = os.waitpid(first, 0)
    code = os.waitstatus_to_exitcode(status)
    said = os.read(started, 4096)
    if said == b"s":
        os.write(report, b'"exit-code": %d}' % code)
    else:
        os.write(report, b'"error": ' + (said[1:] or b"the box ended before the script began"))
    os._exit(code if code >= 0 else 128 - code)


def write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, text.encode())
    os.close(fd)


def first_process(
    payload: "dict[str, Any]", stdio: "list[int]", entrances: "list[int]", starting: int
) -> "dict[str, Any]":
    """Process 1 of the box. When it ends, the kernel ends every other one."""
    try:
        libc.prctl(PR_SET_PDEATHSIG, _signal.SIGKILL, 0, 0, 0)
        guarded = select.poll()
        guarded.register(starting, 0)
        if guarded.poll(0):
            os._exit(FAILED)  # the guard died before it could take us along
        built, building = os.pipe()
        script = os.fork()
        if script == 0:
            os.close(building)
            enter_groups(entrances)
            if os.read(built, 1) != b"b":
                os._exit(FAILED)  # there is no box
            become_script(payload, stdio, starting)
            return payload
        build(payload)
        os.write(building, b"b")
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        give_up_powers()
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        for fd in (*stdio, *entrances, built, building):
            os.close(fd)
        while True:
            pid, status = os.wait()
            if pid == script:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)
    except BaseException as error:  # noqa: BLE001 - a forked process must not go on as if it were the host
        os.write(starting, b"e" + repr(error).encode()[:4000])
        os._exit(FAILED)


def build(payload: "dict[str, Any]") -> None:
    """The same box that bubblewrap makes in `sandbox.inner_options`."""
    mount("", "/", "", MS_REC | MS_PRIVATE)
    mount("tmpfs", ROOT, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
    for folder in ("dev", "proc", "tmp", "work", "script"):
        os.mkdir(f"{ROOT}/{folder}")
    for name, target in payload["links"]:
        os.symlink(target, ROOT + name)
    for source, target in payload["binds"]:
        os.makedirs(ROOT + target, exist_ok=True)
        bind(source, ROOT + target, True)
    touch(ROOT + payload["script"])
    bind(payload["script_path"], ROOT + payload["script"], True)
    bind(payload["work_dir"], ROOT + "/work", False)
    work_flags = os.statvfs(ROOT + "/work").f_flag
    kept = sum(flag for bit, flag in KEPT_FLAGS.items() if work_flags & bit)
    mount("", ROOT + "/work", "", MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | kept)
    mount("tmpfs", ROOT + "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777,size={payload['tmp_bytes']}")  # noqa: S108
    build_dev(payload)
    mount("proc", ROOT + "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    write(ROOT + "/proc/sys/user/max_user_namespaces", "0")
    seal(ROOT)
    name = b"rgrid"
    check(libc.sethostname(name, len(name)), "sethostname")
    os.chdir(ROOT)
    check(libc.pivot_root(b".", b"."), "pivot_root")
    check(libc.umount2(b".", MNT_DETACH), "umount")
    if not payload["network"]:
        loopback_up()


def build_dev(payload: "dict[str, Any]") -> None:
    dev = ROOT + "/dev"
    mount("tmpfs", dev, "tmpfs", MS_NOSUID, "mode=0755,size=1m")
    for name in DEVICES:
        touch(f"{dev}/{name}")
        mount(f"/dev/{name}", f"{dev}/{name}", "", MS_BIND)
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(f"/proc/self/{target}", f"{dev}/{name}")
    os.mkdir(f"{dev}/shm")
    os.mkdir(f"{dev}/pts")
    os.symlink("pts/ptmx", f"{dev}/ptmx")
    mount("tmpfs", f"{dev}/shm", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777,size={payload['shm_bytes']}")
    mount("devpts", f"{dev}/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    mount("", dev, "", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID)


def touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))


def loopback_up() -> None:
    """The box has a network of its own with nothing in it but itself."""
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    request = fcntl.ioctl(sock.fileno(), SIOCGIFFLAGS, b"lo".ljust(40, b"\0"))
    flags = int.from_bytes(request[16:18], sys.byteorder) | IFF_UP
    fcntl.ioctl(sock.fileno(), SIOCSIFFLAGS, request[:16] + flags.to_bytes(2, sys.byteorder) + request[18:])
    sock.close()


def give_up_powers() -> None:
    """No capability, now or by any program started from here."""
    for number in range(CAPABILITIES_MAX):
        if libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            break
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAP_VERSION, 0)
    check(libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def enter_groups(entrances: "list[int]") -> None:
    """Beside the building of the box, because the kernel may take longer for one than for the other: it lets every fork
    of the machine pass first. The view of the groups begins at these."""
    for entrance in entrances:
        os.write(entrance, b"0")
    check(libc.unshare(CLONE_NEWCGROUP), "unshare")


def become_script(payload: "dict[str, Any]", stdio: "list[int]", starting: int) -> None:
    os.setsid()
    os.chdir("/work")
    give_up_powers()
    copies = [os.dup(fd) for fd in stdio]
    for number, fd in enumerate(copies):
        os.dup2(fd, number)
    set_limits(payload["limits"])
    os.write(starting, b"s")
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    os.closerange(3, 4096)
    os.environ.clear()
    os.environ.update(payload["env"])


def enter_environment(place: str) -> None:
    """The packages of the script instead of none. Only here, in its box: what an environment runs at the start of an
    interpreter is no less strange than the script."""
    site = sys.modules["site"]
    empty = sys.prefix
    sys.path[:] = [path for path in sys.path if not path.startswith(f"{empty}/lib")]
    sys.prefix = sys.exec_prefix = place
    sys.executable = f"{place}/bin/{os.path.basename(sys.executable)}"
    site.PREFIXES[:] = [place]
    site.addsitepackages(None, [place])
    site.execsitecustomize()


def forget_the_host(fresh: "frozenset[str]", payload: "dict[str, Any]") -> "dict[str, Any]":
    """Make this interpreter look as if it had just been started with the script: modules, paths, arguments. Returns
    the namespace of its `__main__`. Imports nothing: an import here would be found among the script's modules."""
    if "TZ" in payload["env"]:
        sys.modules["time"].tzset()
    loader = sys.modules["_frozen_importlib_external"].SourceFileLoader
    builtins = sys.modules["builtins"]
    for name in [name for name in sys.modules if name not in fresh]:
        del sys.modules[name]
    script: str = payload["script"]
    sys.argv = [script, *payload["args"]]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv = [sys.executable, *sys.argv]
    sys.path[0] = os.path.dirname(script)
    sys.path_importer_cache.clear()
    if payload.get("environment"):
        enter_environment(payload["environment"])
    main = type(sys)("__main__")
    main.__dict__.update(
        __file__=script,
        __loader__=loader("__main__", script),
        __builtins__=builtins,
        __annotations__={},
        __cached__=None,
    )
    sys.modules["__main__"] = main
    return main.__dict__
