"""Lost leases, a service that is away, full disks, stops and drains: no result is lost, none is accepted twice."""

import asyncio
from pathlib import Path
from typing import Any

from pool.grid_double import GridDouble
from pool.workbench import at_work, running

from rgrid.kernel.errors import Unavailable
from rgrid.pool.pool import RunnerPool
from rgrid.pool.tuning import PoolTuning


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
