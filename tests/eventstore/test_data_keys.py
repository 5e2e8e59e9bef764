"""Sealed values: they open for their stream and name only, with the right master key only, and not once forgotten."""

import asyncio
import base64
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rgrid.adapters.master_key import MasterKeys
from rgrid.eventstore.data_keys import DataKeys, Unreadable
from rgrid.kernel.errors import Gone
from rgrid.postgres.pool import Pool, open_pool

OLD, NEW = b"o" * 32, b"n" * 32


def run(database: str, scenario: Callable[[Pool], Awaitable[None]]) -> None:
    async def inside() -> None:
        pool = await open_pool(database)
        try:
            await scenario(pool)
        finally:
            await pool.close()

    asyncio.run(inside())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(st.dictionaries(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.text(), max_size=5))
def test_what_is_sealed_opens_again_and_shows_nothing(database: str, values: dict[str, str]) -> None:
    async def scenario(pool: Pool) -> None:
        keys = DataKeys(pool, MasterKeys((OLD,)))
        sealed = await keys.seal("execution-1", values)
        assert await keys.open("execution-1", sealed) == values
        assert all(value.encode("utf-8", "replace") not in base64.b64decode(sealed[name])
                   for name, value in values.items() if len(value) > 3)  # fmt: skip

    run(database, scenario)


def test_equal_values_are_sealed_differently(database: str) -> None:
    async def scenario(pool: Pool) -> None:
        keys = DataKeys(pool, MasterKeys((OLD,)))
        one = await keys.seal("execution-1", {"A": "same", "B": "same"})
        two = await keys.seal("execution-1", {"A": "same"})
        assert len({one["A"], one["B"], two["A"]}) == 3

    run(database, scenario)


def test_a_value_moved_to_another_stream_or_name_or_changed_does_not_open(database: str) -> None:
    async def scenario(pool: Pool) -> None:
        keys = DataKeys(pool, MasterKeys((OLD,)))
        sealed = await keys.seal("execution-1", {"A": "secret"})
        await keys.seal("execution-2", {"A": "other"})
        data = bytearray(base64.b64decode(sealed["A"]))
        data[-1] ^= 1
        for stream, name, text in (
            ("execution-2", "A", sealed["A"]),
            ("execution-1", "B", sealed["A"]),
            ("execution-1", "A", base64.b64encode(data).decode()),
            ("execution-1", "A", "no base64!"),
            ("execution-1", "A", ""),
            ("execution-3", "A", sealed["A"]),
        ):
            with pytest.raises(Unreadable) as refusal:
                await keys.open(stream, {name: text})
            assert "secret" not in refusal.value.detail

    run(database, scenario)


def test_a_forgotten_stream_opens_never_again_and_seals_nothing_new(database: str) -> None:
    async def scenario(pool: Pool) -> None:
        keys = DataKeys(pool, MasterKeys((OLD,)))
        sealed = await keys.seal("execution-1", {"A": "secret"})
        kept = await keys.seal("execution-2", {"A": "kept"})
        await keys.forget("execution-1")
        await keys.forget("execution-1")
        await keys.forget("execution-9")
        for stream in ("execution-1", "execution-9"):
            with pytest.raises(Gone):
                await keys.open(stream, sealed)
            with pytest.raises(Gone):
                await keys.seal(stream, {"A": "again"})
        assert await keys.open("execution-2", kept) == {"A": "kept"}
        assert await pool.fetchval("select wrapped_key from data_keys where stream_id = 'execution-1'") is None

    run(database, scenario)


def test_many_sealers_of_one_stream_share_one_key(database: str) -> None:
    async def scenario(pool: Pool) -> None:
        sealers = [DataKeys(pool, MasterKeys((OLD,))) for _ in range(8)]
        sealed = await asyncio.gather(
            *(keys.seal("execution-1", {"A": str(number)}) for number, keys in enumerate(sealers))
        )
        for number, one in enumerate(sealed):
            assert await sealers[0].open("execution-1", one) == {"A": str(number)}

    run(database, scenario)


def test_a_key_change_keeps_everything_readable_and_the_old_key_can_then_go(database: str) -> None:
    async def scenario(pool: Pool) -> None:
        before = DataKeys(pool, MasterKeys((OLD,)))
        sealed = {f"execution-{n}": await before.seal(f"execution-{n}", {"A": str(n)}) for n in range(5)}
        await before.forget("execution-4")
        with pytest.raises(Unreadable):
            await DataKeys(pool, MasterKeys((NEW,))).check()
        both = DataKeys(pool, MasterKeys((NEW, OLD)))
        await both.check()
        assert await both.open("execution-0", sealed["execution-0"]) == {"A": "0"}
        assert [await both.rewrap(3), await both.rewrap(3), await both.rewrap(3)] == [3, 1, 0]
        after = DataKeys(pool, MasterKeys((NEW,)))
        await after.check()
        for n in range(4):
            assert await after.open(f"execution-{n}", sealed[f"execution-{n}"]) == {"A": str(n)}
        with pytest.raises(Unreadable):
            await before.open("execution-0", sealed["execution-0"])

    run(database, scenario)


def test_neither_a_value_nor_a_key_stands_in_the_database_in_clear(database: str) -> None:
    async def scenario(pool: Pool) -> None:
        keys = DataKeys(pool, MasterKeys((OLD,)))
        await keys.seal("execution-1", {"A": "very secret"})
        row = await pool.fetchrow("select * from data_keys")
        assert row is not None
        assert len(row["wrapped_key"]) == 12 + 32 + 16
        assert OLD not in row["wrapped_key"]
        assert row["master_id"] not in (OLD.decode(), OLD.hex())

    run(database, scenario)
