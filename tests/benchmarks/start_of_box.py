"""How long a script waits for its box: cold and warm against a bare interpreter, and no-op scripts per second against
`xargs`. Run it as `python tests/benchmarks/start_of_box.py`; it prints a table and, with `--json`, JSON."""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

from rgrid.pool import interpreters
from rgrid.pool.engines.engine import Job
from rgrid.pool.engines.local import LocalEngine

STARTS = 60
NOOPS = 300
AT_ONCE = 2
ROUNDS = 3


class Bench:
    def __init__(self, engine: LocalEngine, jobs: Path) -> None:
        self.engine = engine
        self.jobs = jobs
        self.count = 0

    async def once(self, script: str) -> tuple[float, float]:
        """Milliseconds from `start` to the first byte and to the end."""
        self.count += 1
        folder = self.jobs / f"bench-{self.count}"
        (folder / "work").mkdir(parents=True)
        path = folder / "script.py"
        path.write_text(script)
        first: list[float] = []
        job = Job(
            job_id=folder.name, runtime="python", script_path=path, args=[], env={}, work_dir=folder / "work",
            timeout_s=60.0, cpu=2.0, memory_mb=256, network=False, disk_quota_bytes=1 << 26,
        )  # fmt: skip
        begun = time.perf_counter()
        run = await self.engine.start(job, lambda stream, data: first.append(time.perf_counter()))
        ended = await run.wait()
        over = time.perf_counter()
        assert ended.exit_code == 0, ended
        shutil.rmtree(folder)
        return ((first or [over])[0] - begun) * 1_000, (over - begun) * 1_000

    async def starts(self) -> tuple[list[float], list[float]]:
        seen = [await self.once("print(1)") for _ in range(STARTS)]
        return [first for first, _ in seen], [over for _, over in seen]

    async def noops_per_s(self) -> float:
        async def some() -> None:
            for _ in range(NOOPS // AT_ONCE):
                await self.once("pass")

        begun = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(AT_ONCE)))
        return NOOPS / (time.perf_counter() - begun)


def bare_starts(program: str) -> list[float]:
    """A bare interpreter, from spawn to its first byte."""
    seen = []
    for _ in range(STARTS):
        begun = time.perf_counter()
        with subprocess.Popen([program, "-c", "print(1)"], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.read()
            seen.append((time.perf_counter() - begun) * 1_000)
    return seen


def xargs_per_s(program: str) -> float:
    lines = "\n".join(map(str, range(NOOPS)))
    begun = time.perf_counter()
    command = ["xargs", f"-P{AT_ONCE}", "-n1", program, "-c", "pass"]
    subprocess.run(command, input=lines, text=True, check=True)
    return NOOPS / (time.perf_counter() - begun)


def spread(values: list[float]) -> dict[str, float]:
    return {"p50": round(median(values), 1), "p95": round(quantiles(values, n=20)[-1], 1)}


async def measure() -> dict[str, object]:
    """Everything in one run, round by round, so that a busy moment of the machine hits all alike."""
    jobs = Path(tempfile.mkdtemp(prefix="rgrid-bench-"))
    jobs.chmod(0o711)
    engines = {}
    for name in ("cold", "warm"):
        (jobs / name).mkdir()
        engines[name] = Bench(await LocalEngine.open(jobs / name, warm=name == "warm"), jobs / name)
    found = interpreters.resolve("python", engines["cold"].engine.interpreters)
    assert found is not None
    clean = interpreters.program(found, engines["cold"].engine.folder, False)
    first: dict[str, list[float]] = {"bare": [], "cold": [], "warm": []}
    over: dict[str, list[float]] = {"cold": [], "warm": []}
    rate: dict[str, list[float]] = {"xargs, as installed": [], "xargs, clean": [], "cold": [], "warm": []}
    for _ in range(ROUNDS):
        first["bare"] += bare_starts(clean)
        rate["xargs, as installed"].append(xargs_per_s(found.program))
        rate["xargs, clean"].append(xargs_per_s(clean))
        for name, bench in engines.items():
            firsts, overs = await bench.starts()
            first[name] += firsts
            over[name] += overs
            rate[name].append(await bench.noops_per_s())
    level = engines["warm"].engine.level
    for bench in engines.values():
        await bench.engine.close()
    shutil.rmtree(jobs)
    return {
        "python": ".".join(map(str, found.version)),
        "level": level,
        "first_byte_ms": {name: spread(values) for name, values in first.items()},
        "over_ms": {name: spread(values) for name, values in over.items()},
        "noops_per_s": {name: round(median(values), 1) for name, values in rate.items()},
    }


def main() -> None:
    result = asyncio.run(measure())
    if "--json" in sys.argv:
        print(json.dumps(result, indent=2))
        return
    print(f"python {result['python']}, level {result['level']}, {AT_ONCE} at once")
    for title in ("first_byte_ms", "over_ms", "noops_per_s"):
        part = result[title]
        assert isinstance(part, dict)
        for name, value in part.items():
            shown = "  ".join(f"{k} {v:6.1f}" for k, v in value.items()) if isinstance(value, dict) else f"{value:7.1f}"
            print(f"{title:14} {name:20} {shown}")


if __name__ == "__main__":
    main()
