"""The service's end of the socket to a `box_host.py`: starts jobs there, signals them, hears how they ended."""

import array
import asyncio
import contextlib
import marshal
import os
import signal
import socket
from asyncio.subprocess import DEVNULL, PIPE, Process
from typing import Any, Final

import msgspec

from rgrid.kernel.errors import Unavailable

_READY_TIMEOUT_S: Final = 20
_STOP_TIMEOUT_S: Final = 5
_SEND_TRIES_MAX: Final = 2_000
_SEND_PAUSE_S: Final = 0.002
_MESSAGE_BYTES_MAX: Final = 1 << 20


class HostGone(Unavailable):
    """The process that held the boxes ended, and every box with it."""

    code = "sandbox_host_gone"


class HostEnd(msgspec.Struct, frozen=True):
    """How a job's first process ended: exit code, or minus a signal. `ran` is false when the box could not be made."""

    status: int
    ran: bool
    error: str | None = None


class BoxClient:
    """One host process. Use `open`."""

    def __init__(self, process: Process, sock: socket.socket) -> None:
        self._process = process
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._sending = asyncio.Lock()
        self._jobs: dict[str, asyncio.Future[HostEnd]] = {}
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._signals: set[asyncio.Task[None]] = set()
        self.alive = True

    @classmethod
    async def open(cls, argv: list[str]) -> "BoxClient":
        """Start the host by `argv`, in which `{fd}` stands for the number of its socket; raises HostGone."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            ours.setblocking(False)
            command = [arg.replace("{fd}", str(theirs.fileno())) for arg in argv]
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    env={},
                    stdin=DEVNULL,
                    stdout=DEVNULL,
                    stderr=PIPE,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    cwd="/",
                )
            except OSError as error:
                ours.close()
                raise HostGone(f"the sandbox host could not be started: {error}") from error
        client = cls(process, ours)
        client._loop.add_reader(ours.fileno(), client._readable)
        try:
            await asyncio.wait_for(client._ready, _READY_TIMEOUT_S)
        except (HostGone, TimeoutError):
            said = await client._last_words()
            await client.close()
            raise HostGone(f"the sandbox host did not start: {said}") from None
        return client

    async def start(
        self, job_id: str, kind: str, payload: dict[str, Any], stdio: list[int], entrances: list[int]
    ) -> "asyncio.Future[HostEnd]":
        """The future is done when every process of the job is gone; it fails with HostGone. `payload` is read by the
        job's child alone, never by the host, whose memory later children inherit."""
        if not self.alive:
            raise HostGone("the sandbox host is gone")
        ended: asyncio.Future[HostEnd] = self._loop.create_future()
        self._jobs[job_id] = ended
        body = marshal.dumps(payload, 2)
        file = os.memfd_create("payload")
        try:
            written = 0
            while written < len(body):
                written += os.write(file, body[written:])
            await self._send({"do": "start", "job": job_id, "kind": kind}, [*stdio, file, *entrances])
        except OSError as error:
            self._jobs.pop(job_id, None)
            self._lose()
            raise HostGone(f"the sandbox host is gone: {error}") from error
        finally:
            os.close(file)
        return ended

    def signal(self, job_id: str, number: int) -> None:
        """To the script, or for SIGKILL to the whole box. A job that is over ignores it."""
        if self.alive and job_id in self._jobs:
            task = self._loop.create_task(self._signal(job_id, number))
            self._signals.add(task)
            task.add_done_callback(self._signals.discard)

    async def _signal(self, job_id: str, number: int) -> None:
        try:
            await self._send({"do": "signal", "job": job_id, "signal": int(number)}, [])
        except OSError:
            self._lose()

    async def close_when_idle(self) -> None:
        """Let the jobs of this host end, then end it."""
        while self._jobs:
            await asyncio.wait(list(self._jobs.values()))
        await self.close()

    async def close(self) -> None:
        """End the host, and with it every box."""
        self._lose()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_TIMEOUT_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            await self._process.wait()

    async def _last_words(self) -> str:
        assert self._process.stderr is not None
        self._lose()
        try:
            said = await asyncio.wait_for(self._process.stderr.read(4096), _STOP_TIMEOUT_S)
        except TimeoutError:
            return "no answer"
        return said.decode(errors="replace").strip().replace("\n", "; ") or "it ended"

    async def _send(self, message: dict[str, Any], fds: list[int]) -> None:
        body = marshal.dumps({**message, "fds": len(fds)}, 2)
        data = memoryview(len(body).to_bytes(4, "big") + body)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        async with self._sending:
            tries = 0
            while data:
                try:
                    sent = self._sock.sendmsg([data], rights)
                except BlockingIOError:
                    tries += 1
                    if tries > _SEND_TRIES_MAX:
                        raise OSError("the sandbox host reads nothing") from None
                    await asyncio.sleep(_SEND_PAUSE_S)
                    continue
                rights = []
                data = data[sent:]

    def _readable(self) -> None:
        try:
            data = self._sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        self._buffer += data
        while len(self._buffer) >= 4:
            size = int.from_bytes(self._buffer[:4], "big")
            if size > _MESSAGE_BYTES_MAX:
                self._lose()
                return
            if len(self._buffer) < 4 + size:
                return
            self._hear(marshal.loads(bytes(self._buffer[4 : 4 + size])))  # noqa: S302 - scripts never hold this socket
            del self._buffer[: 4 + size]

    def _hear(self, message: dict[str, Any]) -> None:
        if "ready" in message and not self._ready.done():
            self._ready.set_result(None)
        elif "ended" in message:
            future = self._jobs.pop(message["ended"], None)
            if future is not None and not future.done():
                future.set_result(HostEnd(message["status"], message["ran"], message.get("error")))

    def _lose(self) -> None:
        if not self.alive:
            return
        self.alive = False
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        if not self._ready.done():
            self._ready.set_exception(HostGone("the sandbox host ended before it was ready"))
            self._ready.exception()
        for future in self._jobs.values():
            if not future.done():
                future.set_exception(HostGone("the sandbox host ended"))
                future.exception()
        self._jobs.clear()
