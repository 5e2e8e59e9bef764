"""Objects in a bucket, against two servers over HTTP; one of them checks every signature."""

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import s3_servers
from s3_servers import bucket, fetch

from rgrid.adapters.s3_addresses import DirectAddresses, bucket_of
from rgrid.adapters.s3_objects import PART_BYTES, S3Objects
from rgrid.kernel.errors import Invalid, NotFound, TooLarge, Unavailable
from rgrid.settings import Settings, describe

MIB = 1024 * 1024


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with s3_servers.moto() as url:
        yield url


@pytest.fixture(scope="session")
def swift_url() -> Iterator[str]:
    with s3_servers.swift() as url:
        yield url


@pytest.fixture(params=["moto", "swift"])
def url(request: pytest.FixtureRequest) -> str:
    address: str = request.getfixturevalue(f"{request.param}_url")
    return address


def run(scenario: Callable[[S3Objects], Coroutine[Any, Any, None]], url: str, **changes: str) -> None:
    async def main() -> None:
        async with S3Objects(bucket(url, **changes)) as store:
            await scenario(store)

    asyncio.run(main())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def content(store: S3Objects, key: str) -> bytes:
    async with await store.open_read(key) as reading:
        return b"".join([chunk async for chunk in reading])


def test_what_goes_in_comes_out_under_its_hash_whole_or_in_parts(url: str) -> None:
    async def scenario(store: S3Objects) -> None:
        for size in (0, 1, PART_BYTES + MIB + 1):
            data = os.urandom(size)
            async with store.open_write(size) as writing:
                for start in range(0, size, 700_001):
                    await writing.write(data[start : start + 700_001])
                stored = await writing.finish()
            assert (stored.sha256, stored.size_bytes) == (sha256(data), size)
            assert await store.size(stored.sha256) == size
            assert sha256(await content(store, stored.sha256)) == stored.sha256
            assert stored.sha256 in [key async for key in store.hashes()]
        assert [key async for key in store.keys("of/rgrid/incoming/")] == []

    run(scenario, url)


def test_a_file_goes_in_and_comes_out_and_a_link_is_not_followed(url: str, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"a file")
    (tmp_path / "link").symlink_to(tmp_path / "there")

    async def scenario(store: S3Objects) -> None:
        stored = await store.put_file(tmp_path / "there")
        await store.copy_to(stored.sha256, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == b"a file"
        assert await store.read_bytes(stored.sha256, 6) == b"a file"
        with pytest.raises(TooLarge):
            await store.read_bytes(stored.sha256, 5)
        with pytest.raises(OSError, match="symbolic"):
            await store.put_file(tmp_path / "link")

    run(scenario, url)


def test_an_upload_over_its_limit_or_broken_off_leaves_nothing(url: str) -> None:
    async def scenario(store: S3Objects) -> None:
        before = {key async for key in store.keys("")}
        with pytest.raises(TooLarge):
            async with store.open_write(PART_BYTES) as writing:
                await writing.write(b"x" * PART_BYTES)
                await writing.write(b"x")
        with pytest.raises(RuntimeError, match="left"):
            async with store.open_write(10 * PART_BYTES) as writing:
                await writing.write(b"x" * PART_BYTES)
                raise RuntimeError("left")
        assert {key async for key in store.keys("")} == before
        assert not (await store.call("list_multipart_uploads")).get("Uploads")

    run(scenario, url)


def test_an_object_that_was_put_a_moment_ago_stays_and_an_unused_one_goes(url: str) -> None:
    async def scenario(store: S3Objects) -> None:
        key = await store.put_bytes(b"to go")
        assert await store.touch(key)
        assert not await store.delete(key)
        assert await store.exists(key)
        assert await store.delete(key, 0)
        assert await store.delete(key)
        assert not await store.exists(key)
        assert not await store.touch(key)
        assert await store.put_bytes(b"to go") == key
        assert await content(store, key) == b"to go"

    run(scenario, url)


def test_what_is_no_known_hash_is_not_found(url: str, tmp_path: Path) -> None:
    async def scenario(store: S3Objects) -> None:
        for key in ("0" * 64, "x", "", "../" * 20, "A" * 64):
            for ask in (store.open_read, store.size):
                with pytest.raises(NotFound):
                    await ask(key)
            with pytest.raises(NotFound):
                await store.copy_to(key, tmp_path / "copy")

    run(scenario, url)


def test_a_damaged_object_is_never_handed_out_as_a_copy(url: str, tmp_path: Path) -> None:
    async def scenario(store: S3Objects) -> None:
        key = sha256(b"what should be there")
        await store.put_whole(store.key_of(key), b"what is there")
        with pytest.raises(NotFound) as refused:
            await store.copy_to(key, tmp_path / "copy")
        assert refused.value.code == "object_damaged"
        assert not (tmp_path / "copy").exists()
        await store.delete(key, 0)

    run(scenario, url)


def test_a_client_brings_and_fetches_a_file_itself(url: str) -> None:
    async def scenario(store: S3Objects) -> None:
        assert store.direct is not None
        assert not await store.direct.has_arrived("exec_1/aa")
        assert await store.direct.take("exec_1/aa", 100) is None
        address = store.direct.upload_url("exec_1/aa", 60)
        assert (await asyncio.to_thread(fetch, "PUT", address, b"brought"))[0] == 200
        assert await store.direct.has_arrived("exec_1/aa")
        taken = await store.direct.take("exec_1/aa", 100)
        assert taken is not None
        assert (taken.sha256, taken.size_bytes) == (sha256(b"brought"), 7)
        assert await store.direct.take("exec_1/aa", 100) is None
        address = store.direct.download_url(taken.sha256, 'd/é "x".csv', "text/csv", 60)
        status, body, headers = await asyncio.to_thread(fetch, "GET", address)
        assert (status, body) == (200, b"brought")
        assert headers["content-type"].startswith("text/csv")
        assert headers["content-disposition"] == "attachment; filename*=UTF-8''" + quote('é "x".csv', safe="")
        await asyncio.to_thread(fetch, "PUT", store.direct.upload_url("exec_1/bb", 60), b"too much")
        with pytest.raises(TooLarge):
            await store.direct.take("exec_1/bb", 7)
        assert not await store.direct.has_arrived("exec_1/bb")

    run(scenario, url)


def test_a_wrong_secret_is_refused_and_never_shown(swift_url: str) -> None:
    async def scenario(store: S3Objects) -> None:
        for call in (store.put_bytes(b"never"), store.check(), store.exists("0" * 64)):
            with pytest.raises(Unavailable) as refused:
                await call
            assert "wrong" not in refused.value.detail
            assert swift_url not in refused.value.detail

    run(scenario, swift_url, secret_key="wrong-wrong-wrong")
    assert "wrong" not in repr(bucket(swift_url, secret_key="wrong-wrong-wrong"))


def test_an_address_is_good_for_one_method_one_object_and_its_time(swift_url: str) -> None:
    async def scenario(store: S3Objects) -> None:
        assert store.direct is not None
        key = await store.put_bytes(b"signed for")
        address = store.direct.download_url(key, "a.txt", "text/plain", 60)
        short = store.direct.download_url(key, "a.txt", "text/plain", 1)
        upload = store.direct.upload_url("exec_2/aa", 60)

        def refused(method: str, url: str, data: bytes | None = None) -> bool:
            return fetch(method, url, data)[0] == 403

        def ask() -> None:
            assert fetch("GET", address)[:2] == (200, b"signed for")
            other = "f" * 62
            for changed in (
                address.replace(key[2:], other),
                address.replace("a.txt", "a.exe"),
                address.replace("X-Amz-Expires=60", "X-Amz-Expires=6000"),
                address[:-1] + ("0" if address[-1] != "0" else "1"),
            ):
                assert changed != address
                assert refused("GET", changed), changed
            assert fetch("GET", address.partition("?")[0])[0] != 200
            assert refused("PUT", address, b"over it")
            assert refused("DELETE", address)
            assert refused("GET", upload)
            assert refused("PUT", upload.replace("exec_2", "exec_3"), b"to another")
            time.sleep(2.1)
            assert refused("GET", short)
            assert fetch("GET", address)[:2] == (200, b"signed for")

        await asyncio.to_thread(ask)
        await store.delete(key, 0)
        assert (await asyncio.to_thread(fetch, "GET", address))[0] == 404

    run(scenario, swift_url)


def test_an_address_signed_with_another_secret_is_refused(swift_url: str) -> None:
    stranger = DirectAddresses(bucket(swift_url, secret_key="another"))
    assert fetch("PUT", stranger.upload_url("of/rgrid/slots/x/y", 60), b"x")[0] == 403


def test_bytes_that_change_on_their_way_are_refused_by_the_server(swift_url: str) -> None:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    where = f"{swift_url}/{s3_servers.BUCKET}/of/rgrid/objects/damaged"
    signed = AWSRequest(method="PUT", url=where, data=b"as it was sent")
    credentials = Credentials(s3_servers.ACCESS_KEY, s3_servers.SECRET_KEY)
    S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(signed)
    import httpx

    headers = {name: value for name, value in signed.headers.items() if name.lower() != "content-length"}
    answer = httpx.put(where, headers=headers, content=b"as it arrived.")
    assert answer.status_code == 400
    assert httpx.put(where, headers=headers, content=b"as it was sent").status_code == 200


def test_a_bucket_needs_its_keys_and_a_name_that_is_one() -> None:
    keys = {"objects_access_key": "key", "objects_secret_key": "secret"}
    assert bucket_of(Settings(objects_url="s3://grid/a/b", **keys)).prefix == "a/b/"
    assert bucket_of(Settings(objects_url="s3://grid", **keys)).prefix == ""
    for wrong in (
        Settings(objects_url="s3://"),
        Settings(objects_url="s3://Grid/x", **keys),
        Settings(objects_url="s3://grid/a b", **keys),
        Settings(objects_url="s3://grid"),
        Settings(objects_url="s3://grid", objects_endpoint="localhost:9000", **keys),
    ):
        with pytest.raises(Invalid) as refused:
            bucket_of(wrong)
        assert refused.value.code == "bad_setting"
    shown = {one.name: one.value for one in describe(Settings(objects_url="s3://grid", **keys))}
    assert shown["RGRID_OBJECTS_SECRET_KEY"] == shown["RGRID_OBJECTS_ACCESS_KEY"] == "***"
