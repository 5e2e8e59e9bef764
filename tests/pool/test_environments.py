"""The cache of environments: built once, found whole or not at all, removed when nobody uses it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from rgrid.pool import environments
from rgrid.pool.environments import Environments, Held, Mark

KEY = "a" * 40
OTHER = "b" * 40


class Builder:
    """Fills an environment with a file of some size; `gate` holds it up in the middle."""

    def __init__(self, size_bytes: int = 1000) -> None:
        self.size_bytes = size_bytes
        self.built = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, folder: Path) -> Path:
        self.built += 1
        made = folder / "environment"
        (made / "lib").mkdir(parents=True)
        (made / "lib" / "half").write_bytes(b"x")
        await self.gate.wait()
        (made / "lib" / "rest").write_bytes(b"x" * self.size_bytes)
        return made


def cache(folder: Path, *, bytes_max: int = 1 << 30, keep_days: int = 30) -> Environments:
    return Environments(folder / "environments", bytes_max=bytes_max, keep_days=keep_days)


async def take(where: Environments, key: str, build: Builder, waits: list[str] | None = None) -> Held:
    held = await where.take(
        key, build, is_over=lambda: False, on_wait=lambda: (waits or []).append(key), wait_max_s=20.0
    )
    assert held is not None
    return held


def kept(folder: Path) -> set[str]:
    return {path.parent.name for path in (folder / "environments").glob("*/made.json")}


def test_two_workers_that_want_the_same_environment_build_it_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        build, waits = Builder(), [""]
        build.gate.clear()
        tasks = [asyncio.ensure_future(take(cache(tmp_path), KEY, build, waits)) for _ in range(3)]
        while len(waits) < 3:
            await asyncio.sleep(0.01)
        assert kept(tmp_path) == set()  # nothing is to be seen of it before it is whole
        build.gate.set()
        held = await asyncio.gather(*tasks)
        assert build.built == 1
        assert sorted(one.is_new for one in held) == [False, False, True]
        assert {one.path for one in held} == {tmp_path / "environments" / KEY / "environment"}
        for one in held:
            one.release()

    asyncio.run(scenario())


def test_an_environment_is_used_again_and_never_for_another_key(tmp_path: Path) -> None:
    async def scenario() -> None:
        build = Builder()
        for key, is_new in ((KEY, True), (KEY, False), (OTHER, True), (OTHER, False)):
            held = await take(cache(tmp_path), key, build)
            assert (held.is_new, held.path.parent.name) == (is_new, key)
            held.release()
        assert build.built == 2

    asyncio.run(scenario())


def test_a_build_that_fails_leaves_nothing_and_the_next_one_starts_anew(tmp_path: Path) -> None:
    async def fails(folder: Path) -> Path:
        (folder / "environment").mkdir()
        raise ValueError("no such package")

    async def scenario() -> None:
        where = cache(tmp_path)
        with pytest.raises(ValueError, match="no such package"):
            await where.take(KEY, fails, is_over=lambda: False, on_wait=lambda: None, wait_max_s=5.0)
        assert {path.name for path in where.folder.iterdir()} == {f"{KEY}.lock"}
        (await take(where, KEY, Builder())).release()
        assert kept(tmp_path) == {KEY}

    asyncio.run(scenario())


def test_a_build_that_puts_a_link_in_the_place_of_its_result_changes_nothing_behind_it(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "inner").mkdir(parents=True, mode=0o700)
    (elsewhere / "file").write_text("mine")
    (elsewhere / "file").chmod(0o600)

    async def link(folder: Path) -> Path:
        (folder / "environment").symlink_to(elsewhere)
        return folder / "environment"

    async def links_inside(folder: Path) -> Path:
        made = folder / "environment"
        made.mkdir()
        (made / "made.json").symlink_to(elsewhere / "file")
        (made / "inner").symlink_to(elsewhere / "inner")
        return made

    async def scenario() -> None:
        where = cache(tmp_path)
        with pytest.raises(OSError, match="no folder"):
            await where.take(KEY, link, is_over=lambda: False, on_wait=lambda: None, wait_max_s=5.0)
        held = await where.take(KEY, links_inside, is_over=lambda: False, on_wait=lambda: None, wait_max_s=5.0)
        assert held is not None
        held.release()
        await where.close()

    asyncio.run(scenario())
    assert (elsewhere / "file").read_text() == "mine"
    assert [(elsewhere / name).stat().st_mode & 0o777 for name in ("file", "inner")] == [0o600, 0o700]


def test_what_a_killed_builder_left_is_never_used_and_swept_away(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys, time\nfrom pathlib import Path\nfrom rgrid.pool.environments import Environments\n"
        "async def build(folder):\n    (folder / 'environment').mkdir()\n    print('half', flush=True)\n"
        "    time.sleep(60)\n"
        "where = Environments(Path(sys.argv[1]), bytes_max=1 << 30, keep_days=1)\n"
        "asyncio.run(where.take(sys.argv[2], build, is_over=lambda: False, on_wait=print, wait_max_s=9))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "environments"), KEY],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()

    async def scenario() -> None:
        where, build = cache(tmp_path), Builder()
        assert len(list(where.folder.glob(".young-*"))) == 1
        held = await take(where, KEY, build)
        assert (held.is_new, (held.path / "lib" / "rest").exists()) == (True, True)
        held.release()
        where.clear()
        assert list(where.folder.glob(".young-*")) == []
        assert kept(tmp_path) == {KEY}
        await where.close()

    asyncio.run(scenario())


def test_an_environment_that_lost_files_while_the_machine_was_down_is_built_again(tmp_path: Path) -> None:
    async def scenario(*, damaged: bool) -> bool:
        where = cache(tmp_path)
        (held := await take(where, KEY, Builder())).release()
        mark = held.path.parent / "made.json"
        seen = msgspec.json.decode(mark.read_bytes(), type=Mark)
        mark.write_bytes(msgspec.json.encode(msgspec.structs.replace(seen, boot_id="an earlier start")))
        if damaged:
            os.truncate(held.path / "lib" / "rest", 0)
        (again := await take(where, KEY, Builder())).release()
        await where.close()
        return again.is_new

    assert asyncio.run(scenario(damaged=True)) is True
    assert asyncio.run(scenario(damaged=False)) is False


def test_what_was_not_used_for_long_goes_and_what_is_in_use_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        where = cache(tmp_path, keep_days=3)
        held = await take(where, KEY, Builder())
        (other := await take(where, OTHER, Builder())).release()
        await where.close()
        long_ago = time.time() - 4 * 86_400
        for path in (held.path, other.path):
            os.utime(path.parent / "made.json", (long_ago, long_ago))
        where.clear()
        assert kept(tmp_path) == {KEY}
        assert held.path.joinpath("lib", "rest").exists()
        held.release()
        where.clear()
        assert [path.name for path in where.folder.iterdir()] == []

    asyncio.run(scenario())


def test_beyond_its_size_the_cache_gives_up_downloads_first_then_what_was_used_longest_ago(tmp_path: Path) -> None:
    async def scenario() -> None:
        where = cache(tmp_path, bytes_max=250_000)
        lock = where.hold_cache()
        (where.folder / environments.CACHE / "download").write_bytes(b"x" * 100_000)
        os.close(lock)
        for at, key in enumerate((KEY, OTHER)):
            (held := await take(where, key, Builder(100_000))).release()
            await where.close()
            os.utime(held.path.parent / "made.json", (time.time() - 60 + at, time.time() - 60 + at))
        where.clear()
        assert not (where.folder / environments.CACHE).exists()
        assert kept(tmp_path) == {KEY, OTHER}
        (await take(where, "c" * 40, Builder(100_000))).release()
        await where.close()
        where.clear()
        assert kept(tmp_path) == {OTHER, "c" * 40}

    asyncio.run(scenario())
