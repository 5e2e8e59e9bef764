"""A large file up, through a script and down again: `python -m tests.benchmarks.transfer [MIB]`. Prints MiB/s and how
much the memory of the service grew."""

import hashlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.benchmarks.bench_grid import KEY, BenchGrid

MIB = 1024 * 1024
ENDS_MAX_S = 600


def pieces(size_mib: int) -> Iterator[bytes]:
    for number in range(size_mib):
        yield number.to_bytes(4, "big") * (MIB // 4)


def peak_mib(pid: int) -> float:
    status = (Path("/proc") / str(pid) / "status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main(size_mib: int) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    script = "import os; os.link('in.bin', 'out.bin')"
    limits = {"RGRID_OUTPUTS_MAX_BYTES": str(8 * 1024 * MIB)}
    with BenchGrid(slots=1, **limits) as grid, httpx.Client(base_url=grid.url, headers=headers, timeout=600) as http:
        before = peak_mib(grid.process.pid)
        began = time.monotonic()
        digest = hashlib.sha256()
        for piece in pieces(size_mib):
            digest.update(piece)
        print(f"hashing alone: {size_mib / (time.monotonic() - began):.0f} MiB/s")
        body = {"script_content": script, "input_files": [{"name": "in.bin", "sha256": digest.hexdigest()}]}
        execution: dict[str, Any] = http.post("/api/v1/executions", json=body).json()
        path = f"/api/v1/executions/{execution['execution_id']}"
        began = time.monotonic()
        http.put(execution["upload_urls"]["in.bin"], content=pieces(size_mib)).raise_for_status()
        print(f"upload: {size_mib / (time.monotonic() - began):.0f} MiB/s")
        http.post(f"{path}/inputs/complete").raise_for_status()
        began = time.monotonic()
        while (execution := http.get(path).json())["status"] not in ("completed", "failed"):
            assert time.monotonic() - began < ENDS_MAX_S, execution
            time.sleep(0.2)
        print(f"through a script ({execution['status']}): {time.monotonic() - began:.1f} s")
        began, size = time.monotonic(), 0
        with http.stream("GET", execution["download_urls"]["out.bin"]) as stream:
            for piece in stream.iter_bytes(MIB):
                size += len(piece)
        assert size == size_mib * MIB
        print(f"download: {size_mib / (time.monotonic() - began):.0f} MiB/s")
        print(f"memory of the service: {before:.0f} MiB before, {peak_mib(grid.process.pid):.0f} MiB at its peak")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1024)
