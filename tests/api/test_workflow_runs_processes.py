"""Two processes on one database: of many triggers in one partition one begins, and a key means the same to both."""

import asyncio
from pathlib import Path

from api.one_desk import RUNS
from api.one_grid import cause, served

from rgrid.workflows.commands import DefineWorkflow
from rgrid.workflows.definition import DECIDER
from rgrid.workflows.document import Outline, Policy

TRIGGER = "/workflows/trigger/shared"
DEFINED = DefineWorkflow(
    document_sha256="ab" * 32, document_size_bytes=2, domain=None, description=None, tags=[], parameters=[],
    defaults={}, outlines=[Outline(name="a", type="WAIT", signal="go")], policy=Policy(), targets=[], is_active=True,
    defined_by="key:test",
)  # fmt: skip


def test_two_processes_let_one_run_into_a_partition_and_begin_one_for_a_key(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            served(database, tmp_path, driving=False) as one,
            served(database, tmp_path, driving=False) as other,
        ):
            await one.grid.handler.handle(DECIDER, "shared", DEFINED, cause())
            body = {"partition_key": {"region": "EU"}}
            sent = [process.http.post(TRIGGER, json=body) for _ in range(8) for process in (one, other)]
            answers = await asyncio.gather(*sent)
            assert sorted(answer.status_code for answer in answers) == [202] + [409] * 15
            (began,) = [answer.json()["run_id"] for answer in answers if answer.status_code == 202]
            refused = [answer.json() for answer in answers if answer.status_code == 409]
            assert {(problem["code"], problem["active_run_id"]) for problem in refused} == {("partition_active", began)}
            keyed = {"idempotency_key": "the same", "params": {"n": 1}}
            sent = [process.http.post(TRIGGER, json=keyed) for _ in range(4) for process in (one, other)]
            runs = {answer.json()["run_id"] for answer in await asyncio.gather(*sent) if answer.status_code == 202}
            assert len(runs) == 1
            again = await other.http.post(TRIGGER, json=keyed)
            assert (again.json()["run_id"], again.headers["idempotency-replayed"]) == (runs.pop(), "true")
            await other.http.post(f"{RUNS}/{began}/cancel")
            assert (await one.http.post(TRIGGER, json=body)).status_code == 202

    asyncio.run(run())
