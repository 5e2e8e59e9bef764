"""The last resort: a script as a plain process with limits, a session and, when the service is root, a user of its own.

Like `box_host.py`, which imports it after a fork, this knows nothing of rgrid. One process stands between host and
script: as subreaper it inherits whatever the script leaves behind, and ends it.
"""
# ruff: noqa: PTH123 (a fresh interpreter has not imported pathlib)

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any

    from rgrid.pool.box_limits import drop_user, set_limits
else:
    import _signal

    from box_limits import drop_user, set_limits

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_ROUNDS_MAX = 10_000
END_ALL = _signal.SIGUSR1


def run(message: "dict[str, Any]", stdio: "list[int]") -> int:
    """Start the script, pass SIGTERM on to it, and return its exit status when nothing of it is left."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    script = os.fork()
    if script == 0:
        try:
            prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
            become_script(message, stdio)
        except BaseException as error:  # noqa: BLE001 - a forked child must end here, whatever happened
            os.write(2, f"rgrid: the script could not be started: {error!r}\n".encode())
        finally:
            os._exit(126)
    _signal.signal(_signal.SIGTERM, lambda *_: kill(script, _signal.SIGTERM))
    _signal.signal(END_ALL, lambda *_: kill_all(message["uid"]))
    _, status = os.waitpid(script, 0)
    end_the_rest(message["uid"])
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def become_script(message: "dict[str, Any]", stdio: "list[int]") -> None:
    os.setsid()
    copies = [os.dup(fd) for fd in stdio]
    for number, fd in enumerate(copies):
        os.dup2(fd, number)
    os.closerange(3, 1 << 16)
    drop_user(message["uid"])
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.chdir(os.fsencode(message["work_dir"]))
    set_limits(message["limits"])
    env = {os.fsencode(key): os.fsencode(value) for key, value in message["env"].items()}
    argv = [os.fsencode(arg) for arg in message["argv"]]
    os.execve(argv[0], argv, env)  # noqa: S606


def end_the_rest(uid: "int | None") -> None:
    """Kill every process below this one, again and again, because a dying parent hands its children over to us."""
    for _ in range(_ROUNDS_MAX):
        kill_all(uid)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def kill_all(uid: "int | None") -> None:
    """All at once where the run has a user of its own: nothing can fork away from that."""
    if uid is not None:
        killer = os.fork()
        if killer == 0:
            drop_user(uid)
            kill(-1, _signal.SIGKILL)
            os._exit(0)
        os.waitpid(killer, 0)
    for pid in descendants(os.getpid()):
        kill(pid, _signal.SIGKILL)


def descendants(root: int) -> "list[int]":
    found: list[int] = []
    pending = [root]
    while pending:
        pid = pending.pop()
        try:
            with open(f"/proc/{pid}/task/{pid}/children") as file:
                children = [int(text) for text in file.read().split()]
        except OSError:
            continue
        found += children
        pending += children
    return found


def kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass
