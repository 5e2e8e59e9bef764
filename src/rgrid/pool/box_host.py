"""The program inside the outer box: it forks every job's process and says how each one ended.

It runs alone (any Python from 3.9 on, nothing of rgrid, nothing but built-in modules until a job needs more), so that
the service never forks itself, an escape from a job's box finds only the outer box, and the end of the service closes
the socket and takes every job along.

A message is four bytes of length and a marshalled dict; its `fds` file descriptors travel beside its first byte.
"""
# ruff: noqa: PTH120, PTH123 (a fresh interpreter has not imported pathlib)

import sys

FRESH = frozenset(sys.modules)  # what an interpreter has before its script: a warm script gets just this

import _socket  # noqa: E402
import errno  # noqa: E402
import gc  # noqa: E402
import marshal  # noqa: E402
import os  # noqa: E402
import select  # noqa: E402

HERE = os.path.dirname(os.path.realpath(__file__))
if HERE not in sys.path:
    sys.path.insert(0, HERE)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any

    from rgrid.pool import box_process, warm_child, warm_end
    from rgrid.pool.box_limits import drop_user, set_limits
else:
    import _signal

    import box_process
    import warm_child
    import warm_end
    from box_limits import drop_user, set_limits

MESSAGE_BYTES_MAX = 32 << 20
FDS_MAX = 32
CLOSE_ON_EXEC = _socket.MSG_CMSG_CLOEXEC  # without it every program that is started here would keep them
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class Channel:
    """The socket to the service. Blocking: the service is the only peer, and without it there is nothing to do."""

    def __init__(self, sock: "_socket.socket") -> None:
        self.sock = sock
        self.buffer = bytearray()
        self.fds: list[int] = []

    def feed(self) -> bool:
        """Read what there is; False when the service is gone."""
        data, ancillary, _, _ = self.sock.recvmsg(1 << 18, _socket.CMSG_LEN(4 * FDS_MAX), CLOSE_ON_EXEC)
        for level, kind, payload in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                self.fds.extend(
                    int.from_bytes(payload[i : i + 4], sys.byteorder) for i in range(0, len(payload) // 4 * 4, 4)
                )
        self.buffer += data
        return bool(data)

    def take(self) -> "tuple[dict[str, Any], list[int]] | None":
        """The next whole message with its descriptors."""
        if len(self.buffer) < 4:
            return None
        size = int.from_bytes(self.buffer[:4], "big")
        if size > MESSAGE_BYTES_MAX:
            raise ValueError("message too large")
        if len(self.buffer) < 4 + size:
            return None
        message = marshal.loads(bytes(self.buffer[4 : 4 + size]))  # noqa: S302 - the service is the only writer
        del self.buffer[: 4 + size]
        fds = self.fds[: message["fds"]]
        del self.fds[: message["fds"]]
        return message, fds

    def send(self, message: "dict[str, Any]") -> None:
        data = marshal.dumps(message, 2)
        self.sock.sendall(len(data).to_bytes(4, "big") + data)


class Host:
    """Jobs by the pid of their first process. `inits` are the first processes of boxes, known a moment later."""

    def __init__(self, channel: Channel, bwrap: str) -> None:
        self.channel = channel
        self.bwrap = bwrap
        self.jobs: dict[int, str] = {}
        self.infos: dict[str, tuple[int, bytes]] = {}  # job -> descriptor of bubblewrap's report, what it said
        self.inits: dict[str, int] = {}
        self.ended: dict[str, tuple[int, bool, str | None]] = {}
        self.poll = select.poll()

    def run(self) -> None:
        wake_r, wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.signal(_signal.SIGCHLD, lambda *_: None)
        _signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        sock = self.channel.sock.fileno()
        self.poll.register(sock, select.POLLIN)
        self.poll.register(wake_r, select.POLLIN)
        self.channel.send({"ready": True, "version": list(sys.version_info[:3]), "pid": os.getpid()})
        while True:
            for fd, _ in self.poll.poll():
                if fd == sock:
                    if not self.channel.feed():
                        return
                    while (taken := self.channel.take()) is not None:
                        self.obey(*taken)
                elif fd == wake_r:
                    os.read(wake_r, 4096)
                else:
                    self.note_report(fd)
            self.reap()

    def obey(self, message: "dict[str, Any]", fds: "list[int]") -> None:
        try:
            if message["do"] == "start":
                self.start(message, fds)
            elif message["do"] == "signal":
                self.signal(message["job"], message["signal"])
        finally:
            for fd in fds:
                os.close(fd)

    def start(self, message: "dict[str, Any]", fds: "list[int]") -> None:
        job = message["job"]
        info_r = info_w = -1
        if message["kind"] != "process":
            info_r, info_w = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            self.channel.send({"ended": job, "status": 125, "ran": False, "error": f"fork: {error}"})
            return
        if pid == 0:
            raise Forked(become(self, message["kind"], fds, info_w))
        self.jobs[pid] = job
        if info_r >= 0:
            os.close(info_w)
            os.set_blocking(info_r, False)
            self.infos[job] = (info_r, b"")
            self.poll.register(info_r, select.POLLIN)

    def note_report(self, fd: int) -> None:
        job = next(job for job, (known, _) in self.infos.items() if known == fd)
        if not self.read_report(job):
            self.poll.unregister(fd)

    def read_report(self, job: str) -> bytes:
        """bubblewrap says which process is the box's first, and at the end that the box could be made."""
        fd, text = self.infos[job]
        try:
            data = os.read(fd, 4096)
        except BlockingIOError:
            return b""
        text += data
        self.infos[job] = (fd, text)
        digits = text.partition(b'"child-pid":')[2].partition(b",")[0].strip(b" }\n")
        if digits.isdigit():
            self.inits[job] = int(digits)
        return data

    def close_report(self, job: str) -> "tuple[bool, str | None]":
        while self.read_report(job):
            pass
        fd, text = self.infos.pop(job)
        try:
            self.poll.unregister(fd)
        except KeyError:
            pass
        os.close(fd)
        error = text.partition(b'"error": ')[2].decode("utf-8", "replace")
        return b'"exit-code"' in text, error or None

    def reap(self) -> None:
        """As subreaper this process inherits the first process of each box from its dying bubblewrap: when that one
        is gone, every process of the box is."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            job = self.jobs.pop(pid, None)
            if job is None:
                continue
            if self.inits.get(job) == pid:
                self.say_ended(job)
                continue
            ran, error = self.close_report(job) if job in self.infos else (True, None)
            self.ended[job] = (os.waitstatus_to_exitcode(status), ran, error)
            init = self.inits.get(job)
            if init is not None and is_ours(init):
                # A bubblewrap that is killed early leaves a first process that has not asked to die with it yet, and
                # waits for its word for ever.
                os.kill(init, _signal.SIGKILL)
                self.jobs[init] = job
            else:
                self.say_ended(job)

    def say_ended(self, job: str) -> None:
        code, ran, error = self.ended.pop(job)
        self.inits.pop(job, None)
        self.channel.send({"ended": job, "status": code, "ran": ran, "error": error})

    def signal(self, job: str, number: int) -> None:
        """SIGKILL goes to the whole box, any other signal to the script alone, or to the box while it has no script."""
        target = next((pid for pid, name in self.jobs.items() if name == job), None)
        if job in self.infos:
            init = self.inits.get(job)
            script = first_child(init) if init is not None else None
            if number == _signal.SIGKILL or script is None:
                target, number = init or target, _signal.SIGKILL
            else:
                target = script
        elif number == _signal.SIGKILL:
            number = box_process.END_ALL  # only the one that stands over a plain process knows all that is below it
        if target is not None:
            try:
                os.kill(target, number)
            except ProcessLookupError:
                pass


def is_ours(pid: int) -> bool:
    """Whether this process is (by now) the parent of a living `pid`; bubblewrap may have reaped it itself."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False


def first_child(pid: int) -> "int | None":
    """The oldest child of the box's first process is the script."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            children = file.read().split()
    except OSError:
        return None
    return int(children[0]) if children else None


class Forked(BaseException):
    """Unwinds the host's frames in a forked child, so that the script has none of them below its own."""

    def __init__(self, payload: "dict[str, Any]") -> None:
        super().__init__()
        self.payload = payload


def become(host: Host, kind: str, fds: "list[int]", report: int) -> "dict[str, Any]":
    """In the child. Returns only in a warm script's own process; every other path ends in another program or here.

    What a job may keep secret (its environment) comes in a file that the child alone reads: the host's memory goes on
    to every later script.
    """
    code = 125
    try:
        _signal.set_wakeup_fd(-1)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        host.channel.sock.close()
        payload = read_payload(fds[3])
        if kind == "warm":
            stdio, entrances = fds[:3], fds[4:]
            os.close(fds[3])
            fds.clear()
            return warm_child.guard(payload, stdio, entrances, report)
        for entrance in fds[4:]:
            os.write(entrance, b"0")
        if kind == "box":
            drop_user(payload["uid"])
            set_limits(payload["limits"])
            enter_box(host.bwrap, payload, fds, report)
        code = box_process.run(payload, fds[:3])
    except BaseException as error:  # noqa: BLE001 - a forked child must end here, whatever happened
        if report >= 0:
            os.write(report, b'"error": ' + repr(error).encode()[:4000])
        elif fds:
            os.write(fds[2], f"rgrid: {error!r}\n".encode())
    os._exit(code)


def read_payload(fd: int) -> "dict[str, Any]":
    os.lseek(fd, 0, os.SEEK_SET)
    parts = []
    while part := os.read(fd, 1 << 20):
        parts.append(part)
    payload: dict[str, Any] = marshal.loads(b"".join(parts))  # noqa: S302 - the service is the only writer
    return payload


def enter_box(bwrap: str, payload: "dict[str, Any]", fds: "list[int]", report: int) -> None:
    """Become bubblewrap. Its environment is empty and its options travel in a file: both can be read in /proc."""
    options = os.memfd_create("options", 0)
    body = b"".join(os.fsencode(option) + b"\0" for option in payload["options"])
    while body:
        body = body[os.write(options, body) :]
    os.lseek(options, 0, os.SEEK_SET)
    stdio = [os.dup(fd) for fd in fds[:3]]
    for number, fd in enumerate(stdio):
        os.dup2(fd, number)
        os.close(fd)
    os.set_inheritable(report, True)
    argv = ["bwrap", "--json-status-fd", str(report), "--args", str(options), "--", *payload["argv"]]
    os.execve(bwrap, [os.fsencode(arg) for arg in argv], {})  # noqa: S606


def main() -> "dict[str, Any] | None":
    """Serve until the service closes the socket. What comes back is for a forked child to run."""
    libc = warm_child.libc
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) or libc.prctl(PR_SET_PDEATHSIG, _signal.SIGKILL, 0, 0, 0):
        raise OSError(errno.EPERM, "prctl")
    os.umask(0o022)
    # What exists now is of no interest to a copy's collector, which would otherwise write to every page that holds it
    # and so get a copy of each.
    gc.collect()
    gc.freeze()
    try:
        Host(Channel(_socket.socket(fileno=int(sys.argv[1]))), sys.argv[2]).run()
    except Forked as forked:
        return forked.payload
    return None


def run_script(payload: "dict[str, Any]") -> "tuple[Any, dict[str, Any]]":
    """The script compiled, and the namespace to run it in."""
    namespace = warm_child.forget_the_host(FRESH, payload)
    with open(payload["script"], "rb") as file:
        source = file.read()
    return compile(source, payload["script"], "exec", dont_inherit=True), namespace


if __name__ == "__main__":
    job = main()
    if job is not None:
        code = 0
        namespace: "dict[str, Any]" = {}
        try:
            script, namespace = run_script(job)
            exec(script, namespace)  # noqa: S102 - a script in its box
        except BaseException as failure:  # noqa: BLE001 - whatever the script raises ends it
            code = warm_end.exit_code_of(failure, __file__)
        warm_end.finish(code, namespace, FRESH)
