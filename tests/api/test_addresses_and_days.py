"""What configuration changes: the host that addresses name, and how many days files are kept."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

from api.keeping import house

GRID = "https://grid.example:8443"


def test_addresses_name_the_public_host(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(database, tmp_path, public_url=f"{GRID}/") as here:
            body = {"script_content": "print(1)", "input_files": ["in.txt"]}
            made = (await here.http.post("/executions", json=body)).json()
            assert made["upload_urls"]["in.txt"].startswith(f"{GRID}/uploads/")
            (listed,) = (await here.get(f"/executions/{made['execution_id']}/inputs"))["data"]
            assert listed["upload_url"].startswith(f"{GRID}/uploads/")
            done = await here.ran(timedelta(0), {}, {"out": b"made"})
            assert (await here.get(f"/executions/{done}"))["download_urls"]["out"].startswith(f"{GRID}/downloads/")
            (artifact,) = (await here.get(f"/executions/{done}/artifacts"))["data"]
            answer = await here.http.post("/artifacts/download-url", json={"artifact_id": artifact["artifact_id"]})
            url = answer.json()["download_url"]
            assert url.startswith(f"{GRID}/downloads/")
            # The signature covers the path and not the host, so it holds behind whatever leads there.
            fetched = await here.http.get(url.replace(GRID, here.address))
            assert (fetched.status_code, fetched.content) == (200, b"made")

    asyncio.run(scenario())


def test_no_address_outlives_its_file(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(database, tmp_path, artifacts_keep_days=2) as here:
            young = await here.ran(timedelta(hours=47), {}, {"out": b"young"})
            gone = await here.ran(timedelta(hours=49), {}, {"out": b"gone"})
            (artifact,) = (await here.get(f"/executions/{young}/artifacts"))["data"]
            ends = datetime.fromisoformat(artifact["expires_at"])
            shown = await here.get(f"/executions/{young}")
            assert ends - datetime.fromisoformat(shown["completed_at"]) == timedelta(days=2)
            body = {"artifact_id": artifact["artifact_id"], "expires_in": 86_400}
            signed = (await here.http.post("/artifacts/download-url", json=body)).json()
            assert datetime.fromisoformat(signed["expires_at"]) <= ends
            assert datetime.fromisoformat(signed["expires_at"]) > ends - timedelta(seconds=2)
            (artifact,) = (await here.get(f"/executions/{gone}/artifacts"))["data"]
            assert artifact["expired"]
            answer = await here.http.post("/artifacts/download-url", json={"artifact_id": artifact["artifact_id"]})
            assert (answer.status_code, answer.json()["code"]) == (410, "artifact_expired")
            assert (await here.retention.purge()).executions_without_files == 1

    asyncio.run(scenario())
