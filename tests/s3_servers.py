"""Two S3 servers over HTTP: moto's, which accepts every signature, and OpenStack Swift's, which checks each one."""

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neighbours import SYSTEM_PYTHON, needs_of_system

from rgrid.adapters.s3_addresses import Bucket
from rgrid.adapters.s3_objects import S3Objects

ACCESS_KEY, SECRET_KEY = "grid:tester", "a-secret-of-the-tests"  # those of swift_server.py
BUCKET = "grid"
STARTS_MAX_S = 60


def bucket(url: str, **changes: str) -> Bucket:
    known = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "endpoint": url, "public_url": url, **changes}
    return Bucket(name=BUCKET, prefix="of/rgrid/", region="us-east-1", **known)


@contextmanager
def moto() -> Iterator[str]:
    """The address of a server with an empty bucket."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", "import moto.server; moto.server.main(['-p', '0'])"],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
        try:
            url = _address(process, said)
            _make_bucket(url)
            yield url
        finally:
            process.kill()
            process.wait()


def _address(process: "subprocess.Popen[bytes]", said: object) -> str:
    give_up = time.monotonic() + STARTS_MAX_S
    while time.monotonic() < give_up and process.poll() is None:
        said.seek(0)  # type: ignore[attr-defined]
        for line in said.read().decode().splitlines():  # type: ignore[attr-defined]
            if "Running on http://" in line:
                return "http://" + line.partition("Running on http://")[2].split()[0].strip("/")
        time.sleep(0.05)
    raise AssertionError("the server did not start")


@contextmanager
def swift() -> Iterator[str]:
    """The address of a server with an empty bucket. Skips when Swift isn't installed."""
    needs_of_system("swift", "python3-swift")
    folder = Path(tempfile.mkdtemp(prefix="swift-"))
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [SYSTEM_PYTHON, str(Path(__file__).with_name("swift_server.py")), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
        )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().decode().strip()
        assert port, (folder / "said").read_text()
        url = f"http://127.0.0.1:{port}"
        _make_bucket(url)
        yield url
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _make_bucket(url: str) -> None:
    async def make() -> None:
        async with S3Objects(bucket(url)) as store:
            await store.call("create_bucket")

    asyncio.run(make())


def fetch(method: str, url: str, data: bytes | None = None) -> tuple[int, bytes, dict[str, str]]:
    """What a client without credentials gets: status, body, headers."""
    request = urllib.request.Request(url, data=data, method=method)
    if data is not None:
        request.add_header("Content-Type", "application/octet-stream")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.headers.items()}
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read(), {}
