"""What goes when its days are over, what stays, and what is never touched: on a real database and a real folder, with
executions that ended forty days ago."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

from api.keeping import LONG_AGO, cause, house, sha256

from rgrid.eventstore.handle import Handler
from rgrid.executions import input_cache, retention, uploads
from rgrid.executions.commands import CacheInputs
from rgrid.executions.events import StoredFile
from rgrid.kernel.clock import now
from rgrid.kernel.input_hash import input_hash


def test_files_go_after_their_days_and_the_record_stays(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(database, tmp_path) as here:
            old = await here.ran(LONG_AGO, {"in": b"old input"}, {"out": b"old output", "also": b"shared"})
            young = await here.ran(timedelta(days=29), {"in": b"young input"}, {"out": b"shared"})
            listed = (await here.get(f"/executions/{old}/artifacts"))["data"]
            assert all(one["expired"] for one in listed)  # the time is over, whether anybody cleaned up or not
            here.put_long_ago()

            done = await here.retention.purge()
            assert (done.executions_without_files, done.executions_without_lines) == (1, 1)
            assert done.objects == 2
            assert not await here.there(b"old input")
            assert not await here.there(b"old output")
            assert await here.there(b"shared")
            assert await here.there(b"young input")
            assert await here.there(b"print(1)")

            execution = await here.get(f"/executions/{old}")
            assert execution["status"] == "completed"
            assert [one["state"] for one in execution["inputs"]] == ["expired"]
            assert execution["download_urls"] is None
            listed = (await here.get(f"/executions/{old}/artifacts"))["data"]
            assert len(listed) == 3
            assert all(one["expired"] and one["sha256"] for one in listed)
            for one in listed:
                shown = await here.get(f"/artifacts/{one['artifact_id']}")
                assert shown["expired"] is True
                for body in ({"artifact_id": one["artifact_id"]}, {"s3_key": one["file_path"]}):
                    if one["filename"] == "also" and "s3_key" in body:
                        continue  # the same content is an output of the young one
                    answer = await here.http.post("/artifacts/download-url", json=body)
                    assert (answer.status_code, answer.json()["code"]) == (410, "artifact_expired")
            answer = await here.http.post(f"/executions/{old}/retry")
            assert (answer.status_code, answer.json()["code"]) == (410, "inputs_expired")
            types = [one["type"] for one in (await here.get(f"/executions/{old}/events"))["data"]]
            assert types.count("execution.objects_expired") == types.count("execution.logs_expired") == 1

            assert (await here.get(f"/executions/{young}"))["download_urls"] is not None
            again = await here.retention.purge()
            assert (again.executions_without_files, again.executions_without_lines, again.objects) == (0, 0, 0)

    asyncio.run(scenario())


def test_a_signed_address_that_is_used_again_after_the_files_went_is_gone(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(database, tmp_path) as here:
            old = await here.ran(timedelta(days=29), {}, {"out": b"fetched before"})
            await here.ran(timedelta(0), {}, {"out": b"fetched before"})
            address = (await here.get(f"/executions/{old}"))["download_urls"]["out"]
            fetched = await here.http.get(address)
            assert (fetched.status_code, fetched.content) == (200, b"fetched before")
            later = now() - timedelta(days=10)
            assert await retention.expire_objects(here.grid.handler, [old], later) == 1
            await here.reached_head()
            answer = await here.http.get(address)
            # The content itself is still there, for another execution.
            assert await here.there(b"fetched before")
            assert (answer.status_code, answer.json()["code"]) == (410, "artifact_expired")
            tampered = await here.http.get(address.replace("expires=", "expires=9"))
            assert tampered.status_code == 403

    asyncio.run(scenario())


def test_log_lines_go_after_their_days_and_the_excerpts_stay(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(database, tmp_path) as here:
            old = await here.ran(LONG_AGO, {}, {})
            before = await here.get(f"/executions/{old}")
            assert (before["stdout"], before["stderr"]) == ("line 0\nline 2\n", "line 1\n")
            position = await here.grid.store.head()
            assert await here.retention.expire_logs() == 1
            # Given up, though the deletion was interrupted before it began: nothing shows, and the next turn goes on.
            assert await here.grid.pool.fetchval("select count(*) from rgrid.execution_logs") == 3
            for query in ("", "?tail=2", "?after=0"):
                page = await here.get(f"/executions/{old}/logs{query}")
                assert (page["data"], page["pagination"]["total"]) == ([], 0)
            assert (await here.http.get(f"/executions/{old}/logs?format=text")).text == ""
            done = await here.retention.purge()
            assert done.lines == 3
            assert await here.grid.pool.fetchval("select count(*) from rgrid.execution_logs") == 0
            here.put_long_ago()
            await here.retention.purge()
            for path in (f"/executions/{old}", f"/executions/{old}?as_of={position}"):
                after = await here.get(path)
                assert (after["stdout"], after["stderr"]) == ("line 0\nline 2\n", "line 1\n")

    asyncio.run(scenario())


def test_what_has_not_ended_keeps_everything(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(database, tmp_path) as here:
            runs = await here.ran(LONG_AGO, {"in": b"needed"}, {}, ends=False)
            ended = await here.ran(LONG_AGO, {"in": b"needed"}, {})
            here.put_long_ago()
            assert await retention.expire_objects(here.grid.handler, [runs], now()) == 0
            done = await here.retention.purge()
            assert done.executions_without_files == 1
            assert await here.there(b"needed")
            assert [one["state"] for one in (await here.get(f"/executions/{ended}"))["inputs"]] == ["expired"]
            assert [one["state"] for one in (await here.get(f"/executions/{runs}"))["inputs"]] == ["cached"]
            assert len((await here.get(f"/executions/{runs}/logs"))["data"]) == 3

    asyncio.run(scenario())


def test_an_object_that_was_put_a_moment_ago_waits(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(database, tmp_path) as here:
            await here.ran(LONG_AGO, {}, {"out": b"put again"})
            assert (await here.retention.purge()).objects == 0
            assert await here.there(b"put again")
            here.put_long_ago()
            assert (await here.retention.remove_objects()) == 0  # looked at again only later
            await here.grid.pool.execute("update rgrid.released_objects set look_at = now()")
            assert (await here.retention.remove_objects()) == 1

    asyncio.run(scenario())


def test_a_cache_entry_holds_its_objects_and_goes_with_its_time(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(database, tmp_path) as here:
            old = await here.ran(LONG_AGO, {"in": b"cached"}, {})
            wanted = input_hash([("in", sha256(b"cached"))])
            file = StoredFile(name="in", size_bytes=6, sha256=sha256(b"cached"))

            async def remember(ago: timedelta, keep_days: int) -> None:
                then = Handler(here.grid.store, here.grid.handler._writer, lambda: now() - ago)
                command = CacheInputs(files=[file], keep_days=keep_days)
                await then.handle(input_cache.DECIDER, wanted, command, cause())
                await here.reached_head()

            await remember(timedelta(days=2), 10)
            here.put_long_ago()
            assert (await here.retention.purge()).executions_without_files == 1
            assert await here.there(b"cached")  # the entry holds it
            found = await here.get(f"/input-cache/{wanted}")
            assert found["cache_hit"]
            body = {"script_content": "1", "input_files": ["in"], "cached_input_refs": found["file_references"]}
            answer = await here.http.post("/executions", json=body)
            assert (answer.status_code, answer.json()["status"]) == (201, "queued")
            await here.http.post(f"/executions/{answer.json()['execution_id']}/cancel")
            assert [one["state"] for one in (await here.get(f"/executions/{old}"))["inputs"]] == ["expired"]

            # The store lost the object: a miss, and a reference that is refused, though the entry lives.
            await here.grid.objects.delete(file.sha256, 0)
            assert not (await here.get(f"/input-cache/{wanted}"))["cache_hit"]
            answer = await here.http.post("/executions", json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "cache_reference_unknown")

    asyncio.run(scenario())


def test_a_cache_entry_whose_time_is_over_is_a_miss_and_can_be_stored_anew(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(database, tmp_path) as here:
            await here.ran(timedelta(days=1), {"in": b"again"}, {})
            wanted = input_hash([("in", sha256(b"again"))])
            file = StoredFile(name="in", size_bytes=5, sha256=sha256(b"again"))
            then = Handler(here.grid.store, here.grid.handler._writer, lambda: now() - timedelta(days=9))
            await then.handle(input_cache.DECIDER, wanted, CacheInputs(files=[file], keep_days=7), cause())
            await here.reached_head()
            references = {"in": f"objects/{file.sha256}"}
            assert not (await here.get(f"/input-cache/{wanted}"))["cache_hit"]
            body = {"script_content": "1", "input_files": ["in"], "cached_input_refs": references}
            answer = await here.http.post("/executions", json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "cache_reference_unknown")
            stored = {"input_hash": wanted, "file_references": references}
            assert (await here.http.post("/input-cache", json=stored)).json() == {"stored": True, "existing": False}
            assert (await here.get(f"/input-cache/{wanted}"))["cache_hit"]
            assert (await here.http.post("/executions", json=body)).status_code == 201
            done = await here.retention.purge()
            assert (done.cache_entries, done.objects) == (0, 0)

    asyncio.run(scenario())


def test_uploads_that_no_execution_took_and_objects_nobody_knows_are_removed(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(database, tmp_path, inputs_deadline_s=1) as here:
            answer = await here.http.post("/executions", json={"script_content": "print(1)", "input_files": ["in"]})
            address = answer.json()["upload_urls"]["in"]
            assert (await here.http.put(address, content=b"first")).status_code == 200
            assert (await here.http.put(address, content=b"second")).status_code == 200
            await here.grid.objects.put_bytes(b"left by a crash")
            here.put_long_ago()
            await here.reached_head()
            done = await here.retention.purge(orphans=True)
            assert (done.uploads, done.objects) == (0, 2)
            assert await here.there(b"second")
            await here.grid.pool.execute("update rgrid.uploads set uploaded_at = now() - interval '2 days'")
            done = await here.retention.purge(orphans=True)
            assert (done.uploads, done.objects) == (1, 1)
            assert not await here.there(b"second")
            assert not await uploads.uploaded(here.grid.pool, answer.json()["execution_id"])

    asyncio.run(scenario())


def test_the_quota_bounds_what_may_come_and_says_so(database: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(database, tmp_path, objects_quota_bytes=1000) as here:

            def body(**file: Any) -> dict[str, Any]:
                return {"script_content": "print(1)", "input_files": [{"name": "in", **file}]}

            answer = await here.http.post("/executions", json=body(size_bytes=1001))
            assert (answer.status_code, answer.json()["code"]) == (413, "storage_quota_exceeded")
            assert answer.json()["quota_bytes"] == 1000
            assert "1000 bytes together" in answer.json()["detail"]
            address = (await here.http.post("/executions", json=body())).json()["upload_urls"]["in"]
            assert (await here.http.put(address, content=b"x" * 1001)).status_code == 413
            assert (await here.http.put(address, content=b"x" * 900)).status_code == 200
            answer = await here.http.post("/executions", json=body(size_bytes=200))
            assert (answer.status_code, answer.json()["left_bytes"]) == (413, 100)
            assert (await here.http.post("/executions", json=body(size_bytes=90))).status_code == 201

    asyncio.run(scenario())
