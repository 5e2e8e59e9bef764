"""The Prometheus text, by itself and over HTTP."""

import asyncio

import pytest
from notes import OPERATIONS
from serving import READER, client

from rgrid.web import metrics
from rgrid.web.metrics import Metrics


def text(found: Metrics) -> str:
    return asyncio.run(found.scrape()).decode()


def test_counters_gauges_and_histograms_are_written_in_the_text_format() -> None:
    found = Metrics()
    jobs = found.counter("jobs_total", "Jobs.", ("state",))
    jobs.add(labels=("done",))
    jobs.add(2.5, ('a"\\\n',))
    found.gauge("depth", "Depth.").set(7)
    took = found.histogram("took_seconds", "Time.", bounds=(0.1, 1))
    for value in (0.05, 0.1, 0.5, 3):
        took.observe(value)
    assert '# HELP jobs_total Jobs.\n# TYPE jobs_total counter\njobs_total{state="done"} 1\n' in text(found)
    assert 'jobs_total{state="a\\"\\\\\\n"} 2.5\n' in text(found)
    assert "\ndepth 7\n" in text(found)
    assert [line for line in text(found).splitlines() if line.startswith("took")] == [
        'took_seconds_bucket{le="0.1"} 2', 'took_seconds_bucket{le="1"} 3', 'took_seconds_bucket{le="+Inf"} 4',
        "took_seconds_sum 3.65", "took_seconds_count 4",
    ]  # fmt: skip


def test_the_number_of_series_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SERIES_MAX", 3)
    found = Metrics()
    calls = found.counter("calls_total", "Calls.", ("who",))
    for number in range(10):
        calls.add(labels=(str(number),))
    lines = [line for line in text(found).splitlines() if line.startswith("calls")]
    assert len(lines) == 4
    assert lines[-1] == 'calls_total{who="other"} 7'


def test_samplers_run_before_each_answer_and_a_broken_or_hanging_one_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "SAMPLE_WAIT_MAX_S", 0.1)
    found = Metrics()
    depth = found.gauge("depth", "Depth.")

    async def sample() -> None:
        depth.add()

    async def broken() -> None:
        raise OSError

    async def hangs() -> None:
        await asyncio.Event().wait()

    for sampler in (sample, broken, hangs):
        found.sample_with(sampler)
    assert "\ndepth 1\n" in text(found)
    assert "\ndepth 2\n" in text(found)


def test_requests_are_counted_by_template_never_by_id() -> None:
    async def scenario() -> None:
        async with client(*OPERATIONS, headers=READER) as http:
            for path in ("/api/v1/notes/note_1", "/api/v1/notes/note_2", "/api/v1/a", "/api/v1/b"):
                await http.get(path)
            await http.request("PROPFIND", "/api/v1/notes")
            answer = await http.get("/metrics")
            assert answer.headers["content-type"].startswith("text/plain")
            lines = answer.text.splitlines()
            assert 'rgrid_http_requests_total{method="GET",route="/api/v1/notes/{note_id}",status="200"} 2' in lines
            assert 'rgrid_http_requests_total{method="GET",route="unmatched",status="404"} 2' in lines
            assert 'rgrid_http_requests_total{method="OTHER",route="/api/v1/notes",status="405"} 1' in lines
            assert 'rgrid_http_request_seconds_count{method="GET",route="/api/v1/notes/{note_id}"} 2' in lines

    asyncio.run(scenario())


def test_metrics_need_a_key_unless_they_were_opened() -> None:
    async def scenario() -> None:
        async with client() as http:
            assert (await http.get("/metrics")).status_code == 401
        async with client(metrics_open=True) as http:
            assert (await http.get("/metrics")).status_code == 200

    asyncio.run(scenario())
