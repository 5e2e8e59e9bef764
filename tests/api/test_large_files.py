"""A large file goes in and out in pieces: what it takes of memory doesn't grow with its size."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import psutil
from api.one_service import Live, service

MIB = 1024 * 1024
SIZE_MIB = 128
GROWTH_MAX_MIB = 48
SCRIPT = "import shutil; shutil.copy('in.bin', 'out.bin'); open('out.bin', 'ab').write(b'!')"


def pieces(size_mib: int) -> Iterator[bytes]:
    for number in range(size_mib):
        yield number.to_bytes(4, "big") * (MIB // 4)


def service_process(live: Live) -> psutil.Process:
    mine = psutil.Process().children(recursive=True)
    return next(one for one in mine if "up" in one.cmdline() and str(live.folder) in one.cmdline())


def peak_mib(process: psutil.Process) -> float:
    """The most that the process has held at any time."""
    status = (Path("/proc") / str(process.pid) / "status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def test_memory_stays_flat_while_a_large_file_goes_in_and_comes_back(live: Live) -> None:
    process = service_process(live)
    live.run("print(1)")
    before = peak_mib(process)
    digest = hashlib.sha256()
    for piece in pieces(SIZE_MIB):
        digest.update(piece)
    declared = {"name": "in.bin", "size_bytes": SIZE_MIB * MIB, "sha256": digest.hexdigest()}
    execution = live.submit(SCRIPT, input_files=[declared])
    answer = live.http.put(execution["upload_urls"]["in.bin"], content=pieces(SIZE_MIB))
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"sha256": declared["sha256"], "size_bytes": declared["size_bytes"]}
    done = live.http.post(f"/api/v1/executions/{execution['execution_id']}/inputs/complete")
    assert done.status_code == 200, done.text
    ended = live.ended(execution["execution_id"])
    assert ended["status"] == "completed", ended
    digest.update(b"!")
    fetched, size = hashlib.sha256(), 0
    with live.http.stream("GET", ended["download_urls"]["out.bin"]) as stream:
        for piece in stream.iter_bytes():
            fetched.update(piece)
            size += len(piece)
    assert (size, fetched.hexdigest()) == (SIZE_MIB * MIB + 1, digest.hexdigest())
    assert peak_mib(process) - before < GROWTH_MAX_MIB


def test_outputs_beyond_the_quota_are_dropped_and_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with service(tmp_path, slots=1, objects_quota_bytes=3000) as live:
        ended = live.run("open('fits', 'w').write('x' * 10); open('large', 'w').write('x' * 5000)")
        assert ended["status"] == "completed", ended
        assert list(ended["download_urls"]) == ["fits"]
        assert ended["execution_metadata"]["outputs_dropped"] == "large"
