"""Warm interpreters: one host process per Python that has already started, and copies itself for every script.

What scripts of one host share is its memory before the fork, which is the same for all of them: the seed of string
hashes and the layout of the address space. Hosts are replaced now and then, so that neither stays for long.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from rgrid.kernel.clock import monotonic_ms
from rgrid.pool.box_client import BoxClient, HostGone
from rgrid.pool.interpreters import Interpreter

STARTS_MAX: Final = 2_000
AGE_MAX_MS: Final = 15 * 60_000
FAILURES_MAX: Final = 3
_OLDEST_PYTHON: Final = (3, 9)
# These are read when an interpreter starts; a script that sets one needs an interpreter that starts with it.
_READ_AT_START: Final = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "GLIBC_")


class _Host:
    def __init__(self, client: BoxClient) -> None:
        self.client = client
        self.starts = 0
        self.born_ms = monotonic_ms()

    def is_fresh(self) -> bool:
        return self.client.alive and self.starts < STARTS_MAX and monotonic_ms() - self.born_ms < AGE_MAX_MS


class WarmHosts:
    """`command` gives the command line of an interpreter's host."""

    def __init__(self, command: Callable[[Interpreter], list[str]]) -> None:
        self._command = command
        self._hosts: dict[str, _Host] = {}
        self._retired: set[asyncio.Task[None]] = set()
        self._opening: dict[str, asyncio.Lock] = {}
        self._failures: dict[str, int] = {}

    def suits(self, interpreter: Interpreter, env: dict[str, str]) -> bool:
        """Whether a script with this environment may be run by a copy of an interpreter that started without it."""
        return (
            interpreter.family == "python"
            and interpreter.version >= _OLDEST_PYTHON
            and self._failures.get(interpreter.runtime, 0) < FAILURES_MAX
            and not any(name.startswith(_READ_AT_START) for name in env)
        )

    async def host(self, interpreter: Interpreter) -> BoxClient | None:
        """A living host, or None when there is none to be had; the caller then starts cold."""
        name = interpreter.runtime
        async with self._opening.setdefault(name, asyncio.Lock()):
            host = self._hosts.get(name)
            if host is None or not host.is_fresh():
                if host is not None:
                    self._retire(self._hosts.pop(name))
                try:
                    host = _Host(await BoxClient.open(self._command(interpreter)))
                except HostGone:
                    self.failed(interpreter)
                    return None
                self._hosts[name] = host
            host.starts += 1
            return host.client

    def failed(self, interpreter: Interpreter) -> None:
        """After a few failures in a row this interpreter is started cold until the engine is opened again."""
        self._failures[interpreter.runtime] = self._failures.get(interpreter.runtime, 0) + 1

    def worked(self, interpreter: Interpreter) -> None:
        self._failures.pop(interpreter.runtime, None)

    def _retire(self, host: _Host) -> None:
        """Its scripts may go on; it ends after the last one."""
        task = asyncio.get_running_loop().create_task(host.client.close_when_idle())
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    async def close(self) -> None:
        for task in list(self._retired):
            task.cancel()
        await asyncio.gather(*self._retired, return_exceptions=True)
        await asyncio.gather(*(host.client.close() for host in self._hosts.values()))
        self._hosts.clear()
