"""API keys over HTTP, on a real database: shown once, scoped, rotated, revoked in every process, never the last one."""

import asyncio
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from api.one_grid import BOOTSTRAP, Served, served

from rgrid.access import key_secret
from rgrid.access.bootstrap import ensure_admin_key
from rgrid.api.authenticate import FRESH_MS
from rgrid.kernel.clock import now

SECRET = re.compile(r"sk_live_[0-9A-Za-z]{43}")


async def created(one: Served, *scopes: str, **changes: Any) -> dict[str, Any]:
    response = await one.http.post("/keys", json={"name": "ci", "scopes": scopes or ["read"], **changes})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


async def status_with(one: Served, secret: str, path: str = "/me") -> int:
    return (await one.http.get(path, headers=one.as_key(secret))).status_code


def test_a_new_key_is_shown_once_and_works(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            response = await one.http.post(
                "/keys", json={"name": "the build", "scopes": ["run", "read"], "description": "for tests"}
            )
            key = response.json()
            assert response.status_code == 201
            assert response.headers["location"] == f"/api/v1/keys/{key['id']}"
            assert int(response.headers["rgrid-position"]) > 0
            assert SECRET.fullmatch(key["key"])
            assert key["prefix"] == key["key"][:12]
            assert (key["status"], key["name"], key["scopes"]) == ("active", "the build", ["run", "read"])

            shown = await one.http.get(f"/keys/{key['id']}")
            assert shown.headers["etag"] == '"1"'
            assert "key" not in shown.json()
            assert shown.json()["description"] == "for tests"
            assert re.fullmatch(r"key:key_\w{26}", shown.json()["created_by"])

            me = (await one.http.get("/me", headers=one.as_key(key["key"]))).json()
            assert me == {
                "actor": f"key:{key['id']}",
                "actor_kind": "key",
                "key_id": key["id"],
                "name": "the build",
                "scopes": ["run", "read"],
                "expires_at": None,
                "rate_limit_per_minute": 60_000,
            }

    asyncio.run(run())


def test_the_log_and_the_read_model_hold_no_secret(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            secret = (await created(one))["key"]
            kept = await one.grid.pool.fetch("select convert_from(state, 'utf8') as text from rgrid.stored_events")
            rows = await one.grid.pool.fetch("select s::text || k::text as text from api_key_secrets s, api_keys k")
            texts = [row["text"] for row in (*kept, *rows)]
            assert not any(secret in text or secret[12:] in text for text in texts)
            assert any(key_secret.hash_of(secret) in text for text in texts)

    asyncio.run(run())


def test_a_key_does_what_its_scope_allows(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            reader = (await created(one, "read"))["key"]
            admin = (await created(one, "admin"))["key"]
            refused = await one.http.get("/keys/key_1", headers=one.as_key(reader))
            assert refused.status_code == 403
            assert (refused.json()["code"], refused.json()["scope"]) == ("scope_missing", "admin")
            assert await status_with(one, admin, "/workers") == 200, "admin includes read"
            assert await status_with(one, reader, "/workers") == 200

    asyncio.run(run())


def test_unknown_expired_and_revoked_keys_get_one_and_the_same_answer(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        clock = [now()]
        async with served(database, tmp_path, lambda: clock[0]) as one:
            revoked = await created(one)
            expired = await created(one, expires_at=(clock[0] + timedelta(minutes=1)).isoformat())
            assert await status_with(one, expired["key"]) == 200
            await one.http.delete(f"/keys/{revoked['id']}")
            clock[0] += timedelta(minutes=1)
            answers = []
            for secret in (revoked["key"], expired["key"], "sk_live_" + "x" * 43, "nonsense"):
                response = await one.http.get("/me", headers=one.as_key(secret))
                answers.append({**response.json(), "request_id": None, "status": response.status_code})
            assert answers[0]["code"] == "credentials_invalid"
            assert answers[0]["status"] == 401
            assert all(answer == answers[0] for answer in answers)

    asyncio.run(run())


def test_a_key_cannot_be_made_expired_or_without_a_time_zone(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            asked = {"name": "ci", "scopes": ["read"]}
            past = await one.http.post("/keys", json={**asked, "expires_at": "2020-01-01T00:00:00Z"})
            assert (past.status_code, past.json()["errors"][0]["field"]) == (400, "expires_at")
            naive = await one.http.post("/keys", json={**asked, "expires_at": "2120-01-01T00:00:00"})
            assert (naive.status_code, naive.json()["errors"][0]["field"]) == (422, "expires_at")
            wrong = await one.http.post("/keys", json={"name": "", "scopes": ["root"], "more": 1})
            assert {error["field"] for error in wrong.json()["errors"]} == {"name", "scopes[0]", "more"}
            zoned = await created(one, expires_at="2120-01-01T02:00:00+02:00")
            assert zoned["expires_at"] == "2120-01-01T00:00:00Z"

    asyncio.run(run())


def test_a_repeated_create_makes_one_key_and_shows_its_secret_once(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one, served(database, tmp_path / "2") as two:
            asked = {"json": {"name": "ci", "scopes": ["read"]}, "headers": {"Idempotency-Key": "once"}}
            first = await one.http.post("/keys", **asked)  # type: ignore[arg-type]
            again = await two.http.post("/keys", **asked)  # type: ignore[arg-type]
            assert (first.status_code, again.status_code) == (201, 201)
            assert again.headers["idempotency-replayed"] == "true"
            assert again.headers["rgrid-position"] == first.headers["rgrid-position"]
            assert again.json() == {**first.json(), "key": None}
            assert (await one.http.get("/keys")).json()["pagination"]["total"] == 2

            rotate = {"headers": {"Idempotency-Key": "twice"}}
            path = f"/keys/{first.json()['id']}/rotate"
            new = await two.http.post(path, **rotate)  # type: ignore[arg-type]
            same = await one.http.post(path, **rotate)  # type: ignore[arg-type]
            assert SECRET.fullmatch(new.json()["key"])
            assert same.json() == {**new.json(), "key": None}

    asyncio.run(run())


def test_rotating_keeps_the_old_secret_for_its_grace(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        clock = [now()]
        async with served(database, tmp_path, lambda: clock[0]) as one:
            old = await created(one)
            before = now()
            response = await one.http.post(f"/keys/{old['id']}/rotate", json={"grace_seconds": 600})
            new = response.json()
            assert response.status_code == 200
            assert (new["id"], new["status"]) == (old["id"], "rotating")
            until = datetime.fromisoformat(new["previous_valid_until"])
            assert before + timedelta(seconds=600) <= until <= now() + timedelta(seconds=600)
            shown = await one.http.get(f"/keys/{old['id']}")
            assert shown.headers["etag"] == '"2"'
            assert (shown.json()["status"], shown.json()["prefix"]) == ("rotating", new["prefix"])

            assert await status_with(one, old["key"]) == 200
            assert await status_with(one, new["key"]) == 200
            clock[0] = until
            assert await status_with(one, old["key"]) == 401
            assert await status_with(one, new["key"]) == 200

    asyncio.run(run())


def test_rotating_without_grace_ends_every_older_secret_at_once(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            first = await created(one)
            second = (await one.http.post(f"/keys/{first['id']}/rotate")).json()
            assert await status_with(one, first["key"]) == 200
            third = (await one.http.post(f"/keys/{first['id']}/rotate", json={"grace_seconds": 0})).json()
            assert third["status"] == "active"
            statuses = [await status_with(one, key["key"]) for key in (first, second, third)]
            assert statuses == [401, 401, 200]
            assert (await one.http.get(f"/keys/{first['id']}")).json()["status"] == "active"

    asyncio.run(run())


def test_no_older_secret_gains_time_by_another_rotation(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        clock = [now()]
        async with served(database, tmp_path, lambda: clock[0]) as one:
            first = await created(one)
            short = (await one.http.post(f"/keys/{first['id']}/rotate", json={"grace_seconds": 60})).json()
            await one.http.post(f"/keys/{first['id']}/rotate", json={"grace_seconds": 86_400})
            clock[0] = datetime.fromisoformat(short["previous_valid_until"])
            assert await status_with(one, first["key"]) == 401
            assert await status_with(one, short["key"]) == 200

    asyncio.run(run())


def test_a_revoked_key_opens_nothing_in_any_process(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        ticks = [0]
        async with (
            served(database, tmp_path) as one,
            served(database, tmp_path / "2", ticks_ms=lambda: ticks[0]) as two,
        ):
            key = await created(one)
            assert await status_with(one, key["key"]) == 200
            assert await status_with(two, key["key"]) == 200
            response = await one.http.delete(f"/keys/{key['id']}")
            assert (response.status_code, response.json()["status"]) == (200, "revoked")
            assert int(response.headers["rgrid-position"]) > 0
            assert await status_with(one, key["key"]) == 401, "at once where it was done"
            ticks[0] += FRESH_MS
            assert await status_with(two, key["key"]) == 401, "as soon as the other process looks again"
            assert FRESH_MS < 5_000
            shown = (await two.http.get(f"/keys/{key['id']}")).json()
            assert shown["status"] == "revoked"
            assert shown["revoked_at"] is not None

            again = await two.http.delete(f"/keys/{key['id']}")
            assert again.status_code == 200
            assert "rgrid-position" not in again.headers
            refused = await two.http.post(f"/keys/{key['id']}/rotate")
            assert (refused.status_code, refused.json()["current_status"]) == (409, "revoked")

    asyncio.run(run())


def test_the_last_admin_key_stays_even_when_two_processes_revoke_at_once(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one, served(database, tmp_path / "2") as two:
            first = (await one.http.get("/me")).json()["key_id"]
            refused = await one.http.delete(f"/keys/{first}")
            assert (refused.status_code, refused.json()["code"]) == (409, "last_admin_key")
            second = await created(one, "admin")
            for other in (one, two):
                assert await status_with(other, second["key"], "/keys") == 200
            answers = await asyncio.gather(
                one.http.delete(f"/keys/{first}"),
                two.http.delete(f"/keys/{second['id']}"),
                one.http.delete(f"/keys/{second['id']}"),
                two.http.delete(f"/keys/{first}"),
            )
            # Whoever asks with the key that was just revoked is not let in: 401.
            codes = {answer.status_code for answer in answers}
            assert {200, 409} >= codes - {401} and 200 in codes
            working = await one.grid.pool.fetchval(
                "select count(*) from api_keys where revoked_at is null and 'admin' = any(scopes)"
            )
            assert working == 1

    asyncio.run(run())


def test_if_match_guards_the_revocation(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            key = await created(one)
            path = f"/keys/{key['id']}"
            stale = (await one.http.get(path)).headers["etag"]
            await one.http.post(f"{path}/rotate")
            refused = await one.http.delete(path, headers={"If-Match": stale})
            assert (refused.status_code, refused.json()["code"]) == (412, "version_mismatch")
            fresh = (await one.http.get(path)).headers["etag"]
            assert (await one.http.get(path, headers={"If-None-Match": fresh})).status_code == 304
            assert (await one.http.delete(path, headers={"If-Match": fresh})).status_code == 200
            another = await created(one)
            done = await one.http.delete(f"/keys/{another['id']}", headers={"If-Match": "*"})
            assert done.status_code == 200

    asyncio.run(run())


def test_what_is_no_key_is_not_found(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            for key_id in ("key_01JB2Z4M7K8P9Q0R1S2T3V4W5X", "exec_01JB2Z4M7K8P9Q0R1S2T3V4W5X", "x", "%00"):
                for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
                    response = await one.http.request(method, f"/keys/{key_id}{path}")
                    assert response.status_code == 404, (method, key_id)

    asyncio.run(run())


def test_the_list_is_filtered_ordered_and_paged(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            made = [await created(one, name=f"key-{n}") for n in range(5)]
            await one.http.delete(f"/keys/{made[0]['id']}")
            await one.http.post(f"/keys/{made[1]['id']}/rotate")
            page = (await one.http.get("/keys")).json()
            assert [key["name"] for key in page["data"]] == ["key-4", "key-3", "key-2", "key-1", "key-0", "admin"]
            assert page["pagination"]["total"] == 6
            by_status = {}
            for status in ("active", "rotating", "revoked", "expired"):
                found = (await one.http.get("/keys", params={"status": status})).json()
                by_status[status] = found["pagination"]["total"]
            assert by_status == {"active": 4, "rotating": 1, "revoked": 1, "expired": 0}
            names: list[str] = []
            cursor: dict[str, str] = {}
            while True:
                asked = {"sort": "name", "order": "asc", "limit": "2", **cursor}
                page = (await one.http.get("/keys", params=asked)).json()
                names += [key["name"] for key in page["data"]]
                if not page["pagination"]["has_more"]:
                    break
                cursor = {"cursor": page["pagination"]["next_cursor"]}
            assert names == ["admin", *(f"key-{n}" for n in range(5))]
            assert (await one.http.get("/keys", params={"sort": "prefix"})).status_code == 422
            assert (await one.http.get("/keys", params={"status": "gone"})).status_code == 422

    asyncio.run(run())


def test_the_list_can_be_ordered_by_last_use_with_unused_keys_last(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        clock = [now()]
        async with served(database, tmp_path, lambda: clock[0]) as one:
            first, second, _unused = [await created(one, name=name) for name in ("first", "second", "unused")]
            for key in (second, first):
                clock[0] += timedelta(minutes=5)
                await status_with(one, key["key"])
            used = clock[0]
            await one.uses.write()
            clock[0] -= timedelta(hours=1)  # a process whose clock is behind takes nothing back
            await status_with(one, first["key"])
            await one.uses.write()
            names: dict[str, list[str]] = {}
            for order in ("asc", "desc"):
                asked: dict[str, str] = {"sort": "last_used_at", "order": order, "limit": "3"}
                names[order] = []
                for _ in range(2):
                    page = (await one.http.get("/keys", params=asked)).json()
                    names[order] += [key["name"] for key in page["data"]]
                    asked["cursor"] = page["pagination"]["next_cursor"] or ""
            assert names["desc"] == ["first", "second", "admin", "unused"]
            assert names["asc"] == ["admin", "second", "first", "unused"]
            shown = (await one.http.get(f"/keys/{first['id']}")).json()
            assert datetime.fromisoformat(shown["last_used_at"]) == used

    asyncio.run(run())


def test_uses_are_written_for_all_keys_together_and_survive_a_failed_write(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one:
            for _ in range(50):
                assert await status_with(one, BOOTSTRAP) == 200
            assert await one.grid.pool.fetchval("select count(*) from rgrid.key_uses") == 0
            await one.grid.pool.execute("alter table rgrid.key_uses rename to away")
            with pytest.raises(asyncpg.UndefinedTableError):
                await one.uses.write()
            await one.grid.pool.execute("alter table rgrid.away rename to key_uses")
            await one.uses.write()
            assert await one.grid.pool.fetchval("select count(*) from rgrid.key_uses") == 1

    asyncio.run(run())


def test_the_first_admin_key_is_made_once_whoever_starts(database: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(database, tmp_path) as one, served(database, tmp_path / "2") as two:
            assert await ensure_admin_key(one.grid.handler, BOOTSTRAP) is None
            assert await ensure_admin_key(two.grid.handler, None) is None
            assert (await one.http.get("/keys")).json()["pagination"]["total"] == 1
            assert await status_with(two, BOOTSTRAP) == 200

    asyncio.run(run())
