"""A pool with real processes against the other end of the protocol: claims, runs, reports."""

import asyncio
import os
from typing import Any

from pool.grid_double import GridDouble
from pool.workbench import at_work, running

from rgrid.kernel.errors import Unavailable


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


def test_lines_of_attempts_side_by_side_keep_their_sequences() -> None:
    script = "import sys\nfor n in range(400):\n    print(n, file=sys.stderr if n % 3 else sys.stdout)"

    async def scenario() -> None:
        async with running(slots=4) as bench:
            names = [bench.grid.submit(script, next_sequence=10) for _ in range(4)]
            await bench.grid.until_ended(*names)
            for name in names:
                assert sorted(bench.grid.logs[name]) == list(range(10, 410))
                assert bench.grid.messages(name, "stdout") == [str(n) for n in range(0, 400, 3)]

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
