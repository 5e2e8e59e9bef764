"""Health within bounds, whatever hangs, and what it answers over HTTP."""

import asyncio
import time

import pytest
from serving import client
from test_problems import check

from rgrid.kernel.clock import now
from rgrid.kernel.errors import Unavailable
from rgrid.web import health
from rgrid.web.health import Check, ComponentHealth, Facts, Health


async def fine() -> None:
    return None


async def broken() -> None:
    raise OSError("password in here")


async def hangs() -> None:
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            # The worst kind: it doesn't even let itself be cancelled at once.
            await asyncio.sleep(0.2)
            raise


async def facts() -> Facts:
    return Facts(position=42, queue_depth=3)


def of(**checks: Check) -> Health:
    return Health("1.2.3", now, checks, facts)


def test_all_well_is_ok_with_figures() -> None:
    report = asyncio.run(of(database=fine, workers=fine).report())
    assert (report.status, report.position, report.queue_depth, report.live_workers) == ("ok", 42, 3, None)
    assert report.components["database"].latency_ms is not None


def test_a_component_that_fails_or_says_so_degrades_the_whole_and_tells_no_secret() -> None:
    async def lost() -> ComponentHealth:
        return ComponentHealth(status="degraded", message="No worker is alive.")

    report = asyncio.run(of(database=fine, object_store=broken, workers=lost).report())
    assert report.status == "degraded"
    assert report.components["object_store"] == ComponentHealth(status="down", message="The check failed: OSError.")
    assert report.components["workers"].message == "No worker is alive."


def test_a_component_that_answers_late_is_degraded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "SLOW_S", 0.01)

    async def slow() -> None:
        await asyncio.sleep(0.05)

    report = asyncio.run(of(database=slow).report())
    assert (report.status, report.components["database"].status) == ("degraded", "degraded")


def test_the_check_ends_whatever_hangs() -> None:
    async def scenario() -> float:
        started = time.monotonic()
        report = await of(database=fine, object_store=hangs, event_log=hangs).report()
        assert report.components["object_store"].message == "No answer within 2.5 s."
        assert (report.status, report.position) == ("degraded", 42)
        return time.monotonic() - started

    assert asyncio.run(scenario()) < 3


def test_a_database_that_is_gone_is_down_with_the_report_inside() -> None:
    with pytest.raises(Unavailable) as caught:
        asyncio.run(of(database=broken).report())
    assert caught.value.extra["health"]["components"]["database"]["status"] == "down"


def test_health_over_http_is_open_and_a_problem_when_down() -> None:
    async def scenario() -> None:
        up = [True]

        async def database() -> None:
            if not up[0]:
                raise OSError

        async with client(health=Health("1.2.3", now, {"database": database}, facts, lambda: up[0])) as http:
            for path in ("/api/v1/health", "/api/v1/health/ready"):
                assert (await http.get(path)).json()["status"] == "ok"
            up[0] = False
            found = check(await http.get("/api/v1/health"), 503, "unhealthy")
            assert found["health"]["status"] == "down"
            assert found["health"]["version"] == "1.2.3"
            check(await http.get("/api/v1/health/ready"), 503, "not_ready")
            assert (await http.get("/api/v1/health/live")).json() == {"status": "ok"}

    asyncio.run(scenario())
