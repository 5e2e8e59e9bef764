"""A pool with real processes against the other end of the protocol: claims, runs, reports, drains."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from pool.grid_double import GridDouble
from pool.plain_engine import PlainEngine

from rgrid.kernel.errors import Unavailable
from rgrid.pool.pool import RunnerPool
from rgrid.pool.tuning import PoolTuning

LIMIT_S = 60.0


class Bench:
    """A running pool and what it talks to."""

    def __init__(self, grid: GridDouble, engine: PlainEngine, pool: RunnerPool, scratch: Path) -> None:
        self.grid = grid
        self.engine = engine
        self.pool = pool
        self.scratch = scratch
        self.stop = asyncio.Event()
        self.task = asyncio.ensure_future(pool.run(self.stop))

    async def end(self) -> None:
        self.stop.set()
        await self.task

    def folders(self) -> list[str]:
        return [path.name for path in self.scratch.iterdir() if path.is_dir()]


@contextlib.asynccontextmanager
async def running(grid: GridDouble | None = None, **tuning: Any) -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory() as folder:
        grid = grid or GridDouble()
        engine = PlainEngine()
        scratch = Path(folder) / "scratch"
        values: dict[str, Any] = {"slots": 2, "renew_every_s": 0.05, "claim_wait_s": 20.0, **tuning}
        bench = Bench(grid, engine, RunnerPool(grid, grid, engine, PoolTuning(**values), scratch), scratch)
        try:
            yield bench
            await bench.end()
            assert bench.folders() == []
        finally:
            bench.task.cancel()
            await asyncio.gather(bench.task, return_exceptions=True)
            await engine.close()


def at_work(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), LIMIT_S))


def test_a_script_runs_and_its_lines_outputs_and_result_arrive() -> None:
    script = """
import os, pathlib, sys
print("args", sys.argv[1:])
print(pathlib.Path(sys.argv[1]).read_text())
print("to stderr", file=sys.stderr)
pathlib.Path("charts").mkdir()
pathlib.Path("charts/one.csv").write_text("a,b")
print({name: value for name, value in os.environ.items() if name.startswith("RGRID") or name == "MINE"})
"""

    async def scenario() -> None:
        async with running() as bench:
            grid = bench.grid
            one = grid.submit(
                script,
                {"data.txt": b"hello"},
                args=["data.txt", "--flag"],
                env={"MINE": "1"},
                batch_id="batch_12345678",
                batch_index=3,
            )
            await grid.until_ended(one)
            outcome = grid.outcome(one)
            assert (outcome.end, outcome.exit_code, outcome.failure_reason, outcome.error) == (
                "completed",
                0,
                None,
                None,
            )
            assert outcome.hint is None
            assert grid.messages(one, "stdout")[:2] == ["args ['data.txt', '--flag']", "hello"]
            assert grid.messages(one, "stderr") == ["to stderr"]
            for part in (f"'RGRID_EXECUTION_ID': '{one}'", "'RGRID_ATTEMPT': '1'", "'MINE': '1'"):
                assert part in grid.messages(one, "stdout")[2]
            for part in ("'RGRID_BATCH_ID': 'batch_12345678'", "'RGRID_BATCH_INDEX': '3'"):
                assert part in grid.messages(one, "stdout")[2]
            assert [(one.filename, one.content_type) for one in outcome.outputs] == [("charts/one.csv", "text/csv")]
            assert outcome.metadata["engine"] == "plain"
            assert outcome.stderr_size_bytes == len("to stderr\n")
            await bench.end()
            assert grid.stopped_workers == [bench.pool.worker_id]

    at_work(scenario)


def test_a_failed_script_says_how_it_ended_and_keeps_its_outputs() -> None:
    script = "open('left.txt','w').write('x')\nimport nowhere"

    async def scenario() -> None:
        async with running() as bench:
            failed = bench.grid.submit(script)
            killed = bench.grid.submit("import os; os.kill(os.getpid(), 15)")
            await bench.grid.until_ended(failed, killed)
            outcome = bench.grid.outcome(failed)
            assert (outcome.end, outcome.exit_code, outcome.failure_reason) == ("failed", 1, "exit_code")
            assert outcome.hint is not None and "'nowhere'" in outcome.hint
            assert bench.grid.outputs[failed] == {"left.txt": b"x"}
            outcome = bench.grid.outcome(killed)
            assert (outcome.end, outcome.exit_code, outcome.failure_reason) == ("failed", 143, "exit_code")
            assert outcome.error == "The script was ended by SIGTERM (exit code 143)."

    at_work(scenario)


def test_a_script_over_its_time_is_ended_and_keeps_what_it_printed_and_wrote() -> None:
    script = "import time\nopen('part.txt','w').write('x')\nprint('half', end='', flush=True)\ntime.sleep(60)"

    async def scenario() -> None:
        async with running() as bench:
            one = bench.grid.submit(script, timeout_s=1)
            await bench.grid.until_ended(one)
            outcome = bench.grid.outcome(one)
            assert (outcome.end, outcome.exit_code, outcome.failure_reason) == ("timed_out", None, "timeout")
            assert outcome.hint is not None and "1 s" in outcome.hint
            assert bench.grid.messages(one) == ["half"]
            assert bench.grid.outputs[one] == {"part.txt": b"x"}

    at_work(scenario)


def test_a_script_never_runs_with_an_input_absent_or_another_than_declared() -> None:
    async def scenario() -> None:
        async with running() as bench:
            grid = bench.grid
            absent = grid.submit("print('ran')", {"a.txt": b"gone later"})
            del grid.objects[grid.queue[-1].inputs[0].sha256]
            changed = grid.submit("print('ran')", {"b.txt": b"declared"})
            grid.objects[grid.queue[-1].inputs[0].sha256] = b"replaced"
            shorter = grid.submit("print('ran')", {"c.txt": b"declared too"})
            grid.objects[grid.queue[-1].inputs[0].sha256] = b"decl"
            leading_out = grid.submit("print('ran')", {"../d.txt": b"outside"})
            await grid.until_ended(absent, changed, shorter, leading_out)
            for one in (absent, changed, shorter, leading_out):
                outcome = grid.outcome(one)
                assert (outcome.end, outcome.failure_reason, outcome.started_at) == ("failed", "input_missing", None)
                assert grid.messages(one) == []
            assert bench.engine.jobs == []

    at_work(scenario)


def test_a_claim_asks_for_no_more_than_the_free_slots() -> None:
    async def scenario() -> None:
        grid = GridDouble()
        names = [grid.submit("import time; time.sleep(0.2)") for _ in range(7)]
        async with running(grid, slots=3) as bench:
            most = 0
            while not all(grid.outcomes.get(name) for name in names):
                most = max(most, bench.pool.busy_slots)
                assert bench.pool.busy_slots <= 3
                await asyncio.sleep(0.002)
            assert most == 3
            assert max(grid.claims) == 3

    at_work(scenario)


def test_a_slot_is_free_again_while_results_are_still_on_their_way() -> None:
    class SlowAnswers(GridDouble):
        gate: asyncio.Event

        async def finish(self, lease: Any, outcome: Any) -> None:
            self.at_gate += 1
            await self.gate.wait()
            await super().finish(lease, outcome)

        at_gate = 0

    async def scenario() -> None:
        grid = SlowAnswers()
        grid.gate = asyncio.Event()
        names = [grid.submit("pass") for _ in range(3)]
        async with running(grid, slots=1):
            while grid.at_gate < 3:
                await asyncio.sleep(0.005)
            grid.gate.set()
            await grid.until_ended(*names)

    at_work(scenario)


def test_a_cancelled_script_gets_sigterm_and_its_end_is_cancelled() -> None:
    script = """
import signal, sys, time
def bye(*_):
    print("bye", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, bye)
print("ready", flush=True)
time.sleep(60)
"""

    async def scenario() -> None:
        for quiet_signals in (False, True):  # the heartbeat alone is enough
            async with running() as bench:
                bench.grid.quiet_signals = quiet_signals
                one = bench.grid.submit(script)
                await bench.grid.until_printed(one, "ready")
                bench.grid.to_cancel.add(bench.grid.current[one])
                await bench.grid.until_ended(one)
                outcome = bench.grid.outcome(one)
                assert (outcome.end, outcome.failure_reason) == ("cancelled", "cancelled")
                assert bench.grid.messages(one) == ["ready", "bye"]

    at_work(scenario)


def test_a_lost_lease_kills_the_box_and_nothing_of_it_is_accepted() -> None:
    script = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)"

    async def scenario() -> None:
        async with running() as bench:
            one = bench.grid.submit(script)
            while not bench.grid.messages(one):
                await asyncio.sleep(0.005)
            pid = int(bench.grid.messages(one)[0])
            bench.grid.expire(one)
            while bench.pool.busy_slots or bench.folders():
                await asyncio.sleep(0.005)
            assert not Path(f"/proc/{pid}").exists()
            assert not bench.grid.outcomes.get(one)
            after = bench.grid.submit("print('next')")
            await bench.grid.until_ended(after)

    at_work(scenario)


def test_a_late_result_is_reported_once_and_refused() -> None:
    async def scenario() -> None:
        grid = GridDouble()
        async with running(grid, renew_every_s=30.0) as bench:
            one = grid.submit("import time\nprint('a', flush=True)\ntime.sleep(0.5)\nopen('o','w').write('x')")
            await grid.until_printed(one, "a")
            lease = grid.current[one]
            grid.expire(one)
            while ("finish", lease) not in grid.refused or bench.folders():
                await asyncio.sleep(0.005)
            assert not grid.outcomes.get(one)
            assert not grid.outputs.get(one)
            assert [what for what, _ in grid.refused].count("finish") == 1

    at_work(scenario)


def test_a_lease_that_cannot_be_renewed_in_time_counts_as_lost() -> None:
    async def scenario() -> None:
        grid = GridDouble(lease_ttl_s=0.4)
        async with running(grid) as bench:
            one = grid.submit("import time\nprint('up', flush=True)\ntime.sleep(60)")
            await grid.until_printed(one, "up")
            grid.down = True
            while bench.pool.busy_slots or bench.folders():
                await asyncio.sleep(0.005)
            grid.down = False
            assert not grid.outcomes.get(one)

    at_work(scenario)


def test_a_finished_result_waits_for_the_service_to_come_back() -> None:
    async def scenario() -> None:
        async with running() as bench:
            one = bench.grid.submit("import time\nprint('up', flush=True)\ntime.sleep(0.3)\nprint('done')")
            await bench.grid.until_printed(one, "up")
            bench.grid.down = True
            while bench.pool.busy_slots:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.3)
            assert not bench.grid.outcomes.get(one)
            bench.grid.down = False
            await bench.grid.until_ended(one)
            assert bench.grid.outcome(one).end == "completed"
            assert bench.grid.messages(one) == ["up", "done"]

    at_work(scenario)


def test_a_result_survives_faults_that_nobody_foresaw() -> None:
    class Breaking(GridDouble):
        finishes = 0

        async def finish(self, lease: Any, outcome: Any) -> None:
            self.finishes += 1
            if self.finishes < 3:
                raise ValueError("the connection is in a strange state")
            await super().finish(lease, outcome)

    async def scenario() -> None:
        grid = Breaking()
        async with running(grid):
            one = grid.submit("print('hello')")
            await grid.until_ended(one)
            assert grid.outcome(one).end == "completed"

    at_work(scenario)


def test_a_pool_waits_for_a_service_that_is_not_there_yet() -> None:
    async def scenario() -> None:
        grid = GridDouble()
        grid.down = True
        async with running(grid):
            await asyncio.sleep(0.3)
            grid.down = False
            one = grid.submit("print('hello')")
            await grid.until_ended(one)
            assert len(grid.workers) == 1

    at_work(scenario)


def test_a_stop_finishes_what_runs_and_takes_nothing_new() -> None:
    async def scenario() -> None:
        async with running(slots=1) as bench:
            grid = bench.grid
            runs = grid.submit("import time\nprint('up', flush=True)\ntime.sleep(0.5)\nprint('done')")
            waits = grid.submit("print('never')")
            await grid.until_printed(runs, "up")
            await bench.end()
            assert grid.outcome(runs).end == "completed"
            assert not grid.outcomes.get(waits)
            assert grid.stopped_workers == [bench.pool.worker_id]

    at_work(scenario)


def test_an_idle_pool_stops_at_once_though_its_claim_waits() -> None:
    async def scenario() -> None:
        async with running(claim_wait_s=50.0) as bench:
            while not bench.grid.claims:
                await asyncio.sleep(0.005)
            await bench.end()
            assert bench.grid.stopped_workers == [bench.pool.worker_id]

    at_work(scenario)


def test_a_drain_that_the_service_asks_for_ends_the_pool() -> None:
    async def scenario() -> None:
        for quiet_signals in (False, True):
            grid = GridDouble()
            grid.quiet_signals = quiet_signals
            async with running(grid) as bench:
                one = grid.submit("import time\nprint('up', flush=True)\ntime.sleep(0.4)")
                await grid.until_printed(one, "up")
                grid.drain = True
                await bench.task
                assert grid.outcome(one).end == "completed"
                assert grid.stopped_workers == [bench.pool.worker_id]

    at_work(scenario)


def test_a_drain_has_a_bound_and_then_gives_the_execution_to_others() -> None:
    async def scenario() -> None:
        async with running(drain_max_s=0.2) as bench:
            one = bench.grid.submit("import time\nprint('up', end='', flush=True)\ntime.sleep(60)")
            await bench.grid.until_printed(one, "up")
            await bench.end()
            outcome = bench.grid.outcome(one)
            assert (outcome.end, outcome.failure_reason) == ("failed", "worker_lost")

    at_work(scenario)


def test_outputs_that_cannot_be_stored_fail_the_attempt_and_the_worker_lives() -> None:
    async def scenario() -> None:
        async with running() as bench:
            grid = bench.grid
            grid.store_fault = OSError(28, "No space left on device")
            full = grid.submit("open('o.txt','w').write('x')")
            failing = grid.submit("open('o.txt','w').write('x')\nraise SystemExit(3)")
            await grid.until_ended(full, failing)
            outcome = grid.outcome(full)
            assert (outcome.end, outcome.exit_code, outcome.failure_reason) == ("failed", None, "internal")
            assert outcome.error == "The outputs could not be stored: no space is left on the disk."
            assert (grid.outcome(failing).exit_code, grid.outcome(failing).failure_reason) == (3, "exit_code")
            grid.store_fault = None
            after = grid.submit("open('o.txt','w').write('x')")
            await grid.until_ended(after)
            assert grid.outputs[after] == {"o.txt": b"x"}

    at_work(scenario)


def test_an_engine_that_breaks_costs_one_attempt_and_not_the_pool() -> None:
    async def scenario() -> None:
        async with running() as bench:
            bench.engine.fault = RuntimeError("no box today: /secret/path")
            one = bench.grid.submit("print(1)")
            await bench.grid.until_ended(one)
            outcome = bench.grid.outcome(one)
            assert (outcome.failure_reason, outcome.error) == ("internal", "The worker failed: RuntimeError.")
            bench.engine.fault = Unavailable("no interpreter answers")
            two = bench.grid.submit("print(1)")
            await bench.grid.until_ended(two)
            assert bench.grid.outcome(two).error == "The attempt failed: no interpreter answers."
            bench.engine.fault = None
            three = bench.grid.submit("print(1)")
            await bench.grid.until_ended(three)
            assert bench.grid.outcome(three).end == "completed"

    at_work(scenario)


def test_lines_of_several_attempts_travel_together_and_keep_their_sequences() -> None:
    script = "import sys\nfor n in range(400):\n    print(n, file=sys.stderr if n % 3 else sys.stdout)"

    async def scenario() -> None:
        async with running(slots=4) as bench:
            names = [bench.grid.submit(script, next_sequence=10) for _ in range(4)]
            await bench.grid.until_ended(*names)
            for name in names:
                assert sorted(bench.grid.logs[name]) == list(range(10, 410))
                assert bench.grid.messages(name, "stdout") == [str(n) for n in range(0, 400, 3)]
            assert max(len(set(names)) for names in bench.grid.appends) > 1

    at_work(scenario)


def test_a_loud_script_is_cut_keeps_its_tail_and_never_fills_the_memory() -> None:
    script = "for n in range(120_000):\n    print('line', n, 'x' * 90)\nprint('the end')"

    async def scenario() -> None:
        async with running(log_bytes_max=6_000_000) as bench:
            one = bench.grid.submit(script)
            await bench.grid.until_ended(one)
            outcome = bench.grid.outcome(one)
            assert (outcome.end, outcome.output_truncated) == ("completed", True)
            assert outcome.stdout_size_bytes > 11_000_000
            assert bench.grid.messages(one, "stdout")[-1] == "the end"
            assert len([m for m in bench.grid.messages(one, "stderr") if m.startswith("[rgrid] output was cut")]) == 1
            assert sorted(bench.grid.logs[one]) == list(range(len(bench.grid.logs[one])))

    at_work(scenario)


def test_reading_pauses_when_the_service_takes_no_lines_and_goes_on_after() -> None:
    class Stuck(GridDouble):
        stuck = True

        async def append_logs(self, batch: Any) -> Any:
            if self.stuck:
                raise Unavailable("no room")
            return await super().append_logs(batch)

    script = "for n in range(60_000):\n    print('line', n, 'x' * 90)"

    async def scenario() -> None:
        grid = Stuck()
        async with running(grid) as bench:
            one = grid.submit(script)
            while not any(started.pauses for started in bench.engine.started):
                await asyncio.sleep(0.005)
            grid.stuck = False
            await grid.until_ended(one)
            assert len(grid.messages(one)) == 60_000

    at_work(scenario)


def test_secrets_reach_neither_lines_nor_errors() -> None:
    async def scenario() -> None:
        async with running() as bench:
            one = bench.grid.submit(
                "import sys, time\nprint('a hunter2', end='', flush=True)\ntime.sleep(0.6)\nprint('secret b')",
                masked=["hunter2secret"],
            )
            await bench.grid.until_ended(one)
            assert "".join(bench.grid.messages(one)) == "a *** b"

    at_work(scenario)


def test_a_pool_clears_what_a_killed_one_left_but_not_what_another_pool_uses() -> None:
    async def scenario() -> None:
        async with running() as bench:
            while not bench.grid.claims:
                await asyncio.sleep(0.005)
            left, of_the_engine = bench.scratch / "exec_left-1-1", bench.scratch / ".box"
            left.mkdir()
            of_the_engine.mkdir()
            stop = asyncio.Event()
            other = GridDouble()
            tuning = PoolTuning(slots=1)
            beside = asyncio.ensure_future(RunnerPool(other, other, bench.engine, tuning, bench.scratch).run(stop))
            while not other.claims:
                await asyncio.sleep(0.005)
            assert left.exists()
            stop.set()
            await beside
            await bench.end()
            later = GridDouble()
            stop = asyncio.Event()
            again = asyncio.ensure_future(RunnerPool(later, later, bench.engine, tuning, bench.scratch).run(stop))
            while not later.claims:
                await asyncio.sleep(0.005)
            assert not left.exists()
            assert of_the_engine.exists()
            of_the_engine.rmdir()
            stop.set()
            await again

    at_work(scenario)


def test_a_worker_says_who_it_is() -> None:
    async def scenario() -> None:
        async with running() as bench:
            while not bench.grid.workers:
                await asyncio.sleep(0.005)
            worker = bench.grid.workers[0]
            assert (worker.pid, worker.slots, worker.sandbox_level) == (os.getpid(), 2, "none")
            assert worker.process_started_ticks > 0
            assert worker.cores >= 1 and worker.memory_mb > 0

    at_work(scenario)
