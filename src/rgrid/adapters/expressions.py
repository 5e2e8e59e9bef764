"""Evaluates expressions of the Common Expression Language in processes that may be killed, a few side by side.

On two shared cores one expression took 0.14 ms (p50), a tree of ten parameters with an expression each 0.4 ms; a
process that had to be killed costs whoever asks next 60 ms.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import msgspec

from rgrid.kernel.errors import Unavailable
from rgrid.kernel.placeholders import EXPRESSION_MAX, BadPlaceholder, filled, holes, paths_in

CHILDREN_MAX: Final = 2
WAITING_MAX: Final = 1000
WAIT_MAX_S: Final = 30.0
WALL_MAX_S: Final = 10.0
REQUEST_MAX_BYTES: Final = 16 * 1024 * 1024
ANSWER_MAX_BYTES: Final = 16 * 1024 * 1024
RESULT_MAX_BYTES: Final = 1024 * 1024
EXPRESSIONS_MAX: Final = 1000
CHECKS_MAX: Final = 20_000
CHECKS_AT_ONCE: Final = 200
_CHILD: Final = Path(__file__).with_name("expression_child.py")
_Results = list[tuple[Any, str | None, str | None]]


class ExpressionFailed(Exception):
    """An expression came to nothing. `category` is RESOURCE when it went over its bounds, else CONFIGURATION."""

    def __init__(self, category: str, message: str) -> None:
        super().__init__(message)
        self.category = category
        self.message = message


class Check(msgspec.Struct, frozen=True):
    """An expression before it is used, with values that its variables might have; without any, only its spelling and
    functions are checked. `wants` is what must come of each."""

    expression: str
    samples: list[dict[str, Any]] = []
    wants: Literal["any", "condition", "time", "list"] = "any"


class Evaluator:
    """Any number may ask at the same time. Raises Unavailable when too many do."""

    def __init__(self) -> None:
        self._idle: list[_Child] = []
        self._places = asyncio.Semaphore(CHILDREN_MAX)
        self._waiting = 0
        self._closed = False

    async def evaluate(self, expression: str, variables: Mapping[str, Any]) -> Any:
        """What the expression comes to, as JSON has it. Raises ExpressionFailed."""
        return (await self._values([expression], variables))[expression]

    async def condition(self, expression: str, variables: Mapping[str, Any]) -> bool:
        """Raises ExpressionFailed, also for what is neither true nor false."""
        value = await self.evaluate(expression, variables)
        if not isinstance(value, bool):
            raise ExpressionFailed("CONFIGURATION", f"`{_shown(expression)}` is neither true nor false.")
        return value

    async def resolve(self, value: Any, variables: Mapping[str, Any]) -> Any:
        """A tree of parameters with what the `${…}` in it come to. Raises ExpressionFailed."""
        try:
            wanted = [expression for _, expression in holes(value)]
        except BadPlaceholder as bad:
            raise ExpressionFailed("CONFIGURATION", str(bad)) from None
        if not wanted:
            return value
        results = await self._values(list(dict.fromkeys(wanted)), variables)
        if len(wanted) > len(results):
            sizes = {expression: len(msgspec.json.encode(result)) for expression, result in results.items()}
            if sum(sizes[expression] for expression in wanted) > RESULT_MAX_BYTES:
                raise ExpressionFailed("RESOURCE", "The results together take more than 1 MiB.")
        return filled(value, results.__getitem__)

    async def faults(self, checks: Sequence[Check]) -> list[str | None]:
        """What is wrong with each expression, None for nothing; the first 20,000 are looked at."""
        found: list[str | None] = []
        for start in range(0, min(len(checks), CHECKS_MAX), CHECKS_AT_ONCE):
            some = checks[start : start + CHECKS_AT_ONCE]
            try:
                found += await self._faults(some)
            except ExpressionFailed:
                found += [await self._fault(check) for check in some]
        return found + [None] * (len(checks) - len(found))

    async def close(self) -> None:
        """End the processes; nothing may be asked any more."""
        self._closed = True
        while self._idle:
            await self._idle.pop().end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _values(self, expressions: list[str], variables: Mapping[str, Any]) -> dict[str, Any]:
        if len(expressions) > EXPRESSIONS_MAX:
            raise ExpressionFailed("RESOURCE", f"There are more than {EXPRESSIONS_MAX} expressions.")
        for expression in expressions:
            if len(expression) > EXPRESSION_MAX:
                raise ExpressionFailed("RESOURCE", f"An expression has more than {EXPRESSION_MAX} characters.")
        request = {"expressions": expressions, "variables": _used(expressions, variables)}
        results: _Results = await self._ask(request)
        _, category, message = results[-1]
        if category is not None:
            raise ExpressionFailed(category, f"`{_shown(expressions[len(results) - 1])}`: {message}")
        return {expression: value for expression, (value, _, _) in zip(expressions, results, strict=True)}

    async def _faults(self, checks: Sequence[Check]) -> list[str | None]:
        found: list[str | None] = await self._ask(
            {"checks": [(one.expression, one.samples, one.wants) for one in checks]}
        )
        return found

    async def _fault(self, check: Check) -> str | None:
        try:
            (fault,) = await self._faults([check])
        except ExpressionFailed as failed:
            return failed.message
        return fault

    async def _ask(self, request: Any) -> Any:
        try:
            data = msgspec.json.encode(request)
        except (TypeError, ValueError, OverflowError, RecursionError) as bad:
            raise ExpressionFailed("CONFIGURATION", f"The variables are not JSON: {bad}") from None
        if len(data) > REQUEST_MAX_BYTES:
            raise ExpressionFailed("RESOURCE", f"The variables take more than {REQUEST_MAX_BYTES >> 20} MiB.")
        await self._enter()
        try:
            # Whoever kills processes for the machine's sake may have meant another one: once more, then no more.
            answer = await self._from_child(data) or await self._from_child(data)
        finally:
            self._places.release()
        if answer is None:
            raise ExpressionFailed("RESOURCE", "The process that evaluates was killed twice.")
        return msgspec.json.decode(answer)

    async def _enter(self) -> None:
        if self._closed or self._waiting >= WAITING_MAX:
            raise Unavailable("Too many expressions wait to be evaluated.")
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_MAX_S):
                await self._places.acquire()
        except TimeoutError:
            raise Unavailable("Expressions wait too long to be evaluated.") from None
        finally:
            self._waiting -= 1

    async def _from_child(self, request: bytes) -> bytes | None:
        """The answer; None when something outside killed the process. Raises ExpressionFailed."""
        child = None
        while self._idle and child is None:
            child = self._idle.pop()
            if not child.lives:
                await child.end()
                child = None
        child = child or await _Child.start()
        try:
            async with asyncio.timeout(WALL_MAX_S):
                answer = await child.ask(request)
        except TimeoutError:
            await child.end()
            raise ExpressionFailed("RESOURCE", f"It took longer than {WALL_MAX_S:.0f} s.") from None
        except BaseException:
            child.kill()
            raise
        if answer is not None:
            self._idle.append(child)
            return answer
        ended = await child.end()
        if ended in _KILLED_FROM_OUTSIDE:
            return None
        raise ExpressionFailed("RESOURCE", _WHY.get(ended, "The expression needs more memory than it may have."))


class _Child:
    """A process that evaluates, one request after the other."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> Self:
        # Isolated: no environment, no folder of the caller's among those that modules come from. In a session of its
        # own, so that Ctrl-C reaches only who waits for it.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(_CHILD),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
            start_new_session=True,
        )
        return cls(process)

    @property
    def lives(self) -> bool:
        return self._process.returncode is None

    async def ask(self, request: bytes) -> bytes | None:
        """None when it ended instead of answering."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(len(request).to_bytes(4) + request)
            await stdin.drain()
            size = int.from_bytes(await stdout.readexactly(4))
            assert size <= ANSWER_MAX_BYTES
            return await stdout.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def kill(self) -> None:
        if self.lives:
            self._process.kill()

    async def end(self) -> int:
        """Its exit code, negative for a signal, once it is gone."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.close()
        try:
            async with asyncio.timeout(1.0):
                return await self._process.wait()
        except TimeoutError:
            self.kill()
            return await self._process.wait()


_SIGPROF: Final = 27
_KILLED_FROM_OUTSIDE: Final = (-9, -15, -2, -1)
_WHY: Final = {-_SIGPROF: "The expression took longer than 100 ms."}


def _used(expressions: Sequence[str], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Only what the expressions name: the outputs of all earlier steps may be large."""
    wanted: dict[str, set[str] | None] = {}
    for expression in expressions:
        for name, *members in paths_in(expression):
            before = wanted.setdefault(name, set())
            if not members:
                wanted[name] = None
            elif before is not None:
                before.add(members[0])
    used: dict[str, Any] = {}
    for name in wanted.keys() & variables.keys():
        value, some = variables[name], wanted[name]
        is_part = some is not None and isinstance(value, Mapping)
        used[name] = {key: value[key] for key in some or () if key in value} if is_part else value
    return used


def _shown(expression: str) -> str:
    return expression if len(expression) <= 100 else f"{expression[:99]}…"
