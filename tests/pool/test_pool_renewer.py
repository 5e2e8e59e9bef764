"""Leases stay alive while the event loop is busy, and count as lost when no renewal gets through in time."""

import asyncio
import threading
import time
from collections.abc import Sequence

from pool.grid_double import GridDouble

from rgrid.pool.protocol import Lease, Renewal
from rgrid.pool.renewer import Renewer

ONE = Lease(execution_id="exec_1", attempt=1, fencing_token=1)
TWO = Lease(execution_id="exec_2", attempt=1, fencing_token=2)


class Seen:
    """What a renewer told."""

    def __init__(self) -> None:
        self.told: list[Renewal] = []
        self.overdue: list[Lease] = []

    def renewer(self, heartbeat: object, every_s: float) -> Renewer:
        return Renewer(heartbeat, "wrk_1", every_s, self.told.append, self.overdue.append)  # type: ignore[arg-type]


def test_renewals_go_on_while_the_event_loop_is_blocked() -> None:
    async def scenario() -> None:
        grid, seen = GridDouble(), Seen()
        grid.current[ONE.execution_id] = ONE
        renewer = seen.renewer(grid, 0.02)
        renewer.hold(ONE, 60.0)
        renewer.start()
        count = len(grid.renewals)
        time.sleep(0.5)
        assert len(grid.renewals) > count + 5
        assert seen.told == []
        await asyncio.sleep(0.01)
        assert len(seen.told) > 5  # the answers were kept for the loop
        await renewer.stop()

    asyncio.run(scenario())


def test_lost_leases_and_cancels_and_drains_are_told_on_the_event_loop() -> None:
    async def scenario() -> None:
        grid, seen = GridDouble(), Seen()
        grid.current[ONE.execution_id] = ONE
        grid.to_cancel.add(ONE)
        grid.drain = True
        renewer = seen.renewer(grid, 0.02)
        renewer.hold(ONE, 60.0)
        renewer.hold(TWO, 60.0)
        renewer.start()
        while not seen.told:
            await asyncio.sleep(0.005)
        assert seen.told[0] == Renewal(lost=[TWO], cancel=[ONE], drain=True)
        await renewer.stop()

    asyncio.run(scenario())


def test_a_lease_is_overdue_when_the_service_is_away_for_its_whole_time() -> None:
    async def scenario() -> None:
        grid, seen = GridDouble(), Seen()
        grid.current[ONE.execution_id] = ONE
        renewer = seen.renewer(grid, 0.02)
        renewer.hold(ONE, 0.3)
        renewer.start()
        watch = asyncio.ensure_future(renewer.watch())
        started = time.monotonic()
        while time.monotonic() < started + 0.6:
            await asyncio.sleep(0.01)
        assert seen.overdue == []  # renewals carry it beyond its first deadline
        grid.renewals_down = True
        while not seen.overdue:
            await asyncio.sleep(0.01)
        assert seen.overdue == [ONE]
        watch.cancel()
        await renewer.stop()

    asyncio.run(scenario())


def test_a_request_that_hangs_does_not_hide_that_the_lease_ran_out() -> None:
    class Hanging:
        def __init__(self) -> None:
            self.released = threading.Event()

        def close(self) -> None:
            pass

        def renew(self, worker_id: str, leases: Sequence[Lease]) -> Renewal:
            self.released.wait()
            return Renewal(lost=[], cancel=[], drain=False)

    async def scenario() -> None:
        heartbeat, seen = Hanging(), Seen()
        renewer = seen.renewer(heartbeat, 0.01)
        renewer.hold(ONE, 0.2)
        renewer.start()
        watch = asyncio.ensure_future(renewer.watch())
        while not seen.overdue:
            await asyncio.sleep(0.01)
        watch.cancel()
        heartbeat.released.set()
        await renewer.stop()

    asyncio.run(scenario())


def test_an_unexpected_fault_of_the_heartbeat_does_not_end_the_renewals() -> None:
    class Breaking(GridDouble):
        calls = 0

        def close(self) -> None:
            pass

        def renew(self, worker_id: str, leases: Sequence[Lease]) -> Renewal:
            self.calls += 1
            if self.calls < 3:
                raise ValueError("not what anybody expected")
            return super().renew(worker_id, leases)

    async def scenario() -> None:
        grid, seen = Breaking(), Seen()
        renewer = seen.renewer(grid, 0.02)
        renewer.start()
        while not seen.told:
            await asyncio.sleep(0.005)
        await renewer.stop()

    asyncio.run(scenario())
