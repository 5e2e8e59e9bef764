"""The object store on a real folder and on a disk that is really full."""

import asyncio
import hashlib
import itertools
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rgrid.adapters.objects import CHUNK_BYTES, LocalObjects, StoredObject
from rgrid.adapters.uploads import Uploads
from rgrid.kernel.errors import NotFound, TooLarge, Unavailable


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalObjects]:
    objects = LocalObjects(tmp_path / "objects")
    yield objects
    objects.close()


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def content(store: LocalObjects, key: str) -> bytes:
    async with await store.open_read(key) as reading:
        return b"".join([chunk async for chunk in reading])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.binary(max_size=5000), st.lists(st.integers(0, 5000)))
def test_what_goes_in_in_any_pieces_comes_out_under_its_hash(store: LocalObjects, data: bytes, cuts: list[int]) -> None:
    async def scenario() -> None:
        edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        async with store.open_write(size_max=5000) as writing:
            for start, end in itertools.pairwise(edges):
                await writing.write(data[start:end])
            stored = await writing.finish()
        assert stored == StoredObject(sha256=sha256(data), size_bytes=len(data))
        assert await store.put_bytes(data) == stored.sha256
        assert await content(store, stored.sha256) == data
        assert await store.read_bytes(stored.sha256, 5000) == data
        assert await store.size(stored.sha256) == len(data)

    run(scenario)


def test_a_file_of_several_chunks_goes_in_and_comes_out(store: LocalObjects, tmp_path: Path) -> None:
    async def scenario() -> None:
        data = os.urandom(3 * CHUNK_BYTES + 17)
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(data)
        stored = await store.put_file(source)
        assert stored == StoredObject(sha256=sha256(data), size_bytes=len(data))
        await store.copy_to(stored.sha256, target)
        assert target.read_bytes() == data
        async with await store.open_read(stored.sha256) as reading:
            assert reading.size_bytes == len(data)

    run(scenario)


def test_equal_bytes_are_stored_once(store: LocalObjects, tmp_path: Path) -> None:
    async def scenario() -> None:
        for _ in range(3):
            await store.put_bytes(b"print(1)")
        (tmp_path / "same").write_bytes(b"print(1)")
        await store.put_file(tmp_path / "same")
        assert len(files(tmp_path / "objects")) == 1

    run(scenario)


@pytest.mark.parametrize("key", ["", "x", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64, "0" * 64 + "\n"])
def test_what_is_no_known_hash_is_not_found(store: LocalObjects, tmp_path: Path, key: str) -> None:
    async def scenario() -> None:
        assert not await store.exists(key)
        for refused in (
            store.open_read(key),
            store.size(key),
            store.read_bytes(key, 10),
            store.copy_to(key, tmp_path / "t"),
        ):
            with pytest.raises(NotFound):
                await refused
        assert not (tmp_path / "t").exists()

    run(scenario)


def test_an_upload_over_its_limit_or_broken_off_leaves_nothing(store: LocalObjects, tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(TooLarge):
            async with store.open_write(size_max=2 * CHUNK_BYTES) as writing:
                for _ in range(3):
                    await writing.write(b"x" * CHUNK_BYTES)
        with pytest.raises(ConnectionError):
            async with store.open_write(size_max=100) as writing:
                await writing.write(b"half")
                raise ConnectionError
        async with store.open_write(size_max=100) as writing:
            await writing.write(b"never finished")
        (tmp_path / "big").write_bytes(b"x" * 11)
        with pytest.raises(TooLarge):
            await store.put_file(tmp_path / "big", size_max=10)
        assert files(tmp_path / "objects") == []

    run(scenario)


def test_a_symbolic_link_is_not_followed(store: LocalObjects, tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "link").symlink_to("/etc/hostname")
        with pytest.raises(Unavailable):
            await store.put_file(tmp_path / "link")
        assert files(tmp_path / "objects") == []

    run(scenario)


def test_a_damaged_object_is_never_handed_out_as_a_copy(store: LocalObjects, tmp_path: Path) -> None:
    async def scenario() -> None:
        key = await store.put_bytes(b"right")
        store.path_of(key).write_bytes(b"wrong")
        with pytest.raises(NotFound, match="damaged"):
            await store.copy_to(key, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()

    run(scenario)


def test_a_deleted_object_is_gone_and_can_be_put_again(store: LocalObjects) -> None:
    async def scenario() -> None:
        key = await store.put_bytes(b"data")
        assert await store.delete(key, unused_for_s=0)
        assert not await store.exists(key)
        assert await store.delete(key, unused_for_s=0)
        assert await store.put_bytes(b"data") == key
        assert await store.exists(key)

    run(scenario)


def test_an_object_that_was_put_again_lately_is_not_cleaned_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        one, two = LocalObjects(tmp_path), LocalObjects(tmp_path)
        key = await one.put_bytes(b"data")
        os.utime(one.path_of(key), (1, 1))
        await two.put_bytes(b"data")
        assert not await one.delete(key)
        os.utime(one.path_of(key), (1, 1))
        assert await one.delete(key)
        one.close()
        two.close()

    run(scenario)


def test_a_start_removes_what_a_killed_process_was_writing_and_nothing_else(tmp_path: Path) -> None:
    code = """
        import asyncio, os, signal, sys
        from pathlib import Path
        from rgrid.adapters.objects import LocalObjects
        async def upload():
            async with LocalObjects(Path(sys.argv[1])).open_write(10**9) as writing:
                await writing.write(b"x" * 2_000_000)
                os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(upload())
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)])
    assert killed.returncode == -9
    assert len(files(tmp_path)) == 1

    async def scenario() -> None:
        first = LocalObjects(tmp_path)
        assert files(tmp_path) == []
        async with first.open_write(size_max=100) as writing:
            await writing.write(b"still going")
            LocalObjects(tmp_path).close()
            stored = await writing.finish()
        assert await content(first, stored.sha256) == b"still going"
        first.close()

    run(scenario)


def test_a_full_disk_is_reported_and_leaves_no_partial_file(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")

    async def scenario() -> None:
        store = LocalObjects(tmp_path / "objects")
        small = await store.put_bytes(b"small")
        with pytest.raises(Unavailable, match="full") as refusal:
            await store.put_bytes(b"x" * 2 * CHUNK_BYTES)
        assert refusal.value.code == "storage_full"
        with pytest.raises(Unavailable, match="full"):
            async with store.open_write(size_max=10 * CHUNK_BYTES) as writing:
                for _ in range(3):
                    await writing.write(b"y" * CHUNK_BYTES)
        assert len(files(tmp_path)) == 1
        assert await content(store, small) == b"small"
        assert await store.put_bytes(b"small too")
        store.close()

    try:
        run(scenario)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_slot_holds_the_last_upload_and_is_seen_by_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        one, two = Uploads(tmp_path), Uploads(tmp_path)
        name = "folder/../odd \u20ac name"
        assert await one.uploaded("exec_1", name) is None
        first = StoredObject(sha256=sha256(b"1"), size_bytes=1)
        await one.record("exec_1", name, first)
        assert await two.uploaded("exec_1", name) == first
        second = StoredObject(sha256=sha256(b"22"), size_bytes=2)
        await two.record("exec_1", name, second)
        assert await one.uploaded("exec_1", name) == second
        assert await one.uploaded("exec_1", "other") is None
        assert await one.uploaded("exec_2", name) is None
        await one.forget("exec_1")
        assert await two.uploaded("exec_1", name) is None
        with pytest.raises(NotFound):
            await one.uploaded("../exec_1", name)

    run(scenario)
