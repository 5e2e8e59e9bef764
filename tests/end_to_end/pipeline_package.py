"""A package that registers handlers, as users install one: written into a folder that a service imports from."""

from pathlib import Path

_MODULE = """
import asyncio
import time
from pathlib import Path

from rgrid.workflows.handlers import HandlerContext


async def slow(seconds: float, marker: str, context: HandlerContext) -> dict:
    with Path(marker).open("a") as file:
        print(context.attempt_key, file=file, flush=True)
    await asyncio.sleep(seconds)
    return {"slept": seconds}


def add(a: int, b: int) -> dict:
    return {"sum": a + b}


def fibo(n: int) -> int:
    return n if n < 2 else fibo(n - 1) + fibo(n - 2)


def value(n: int) -> dict:
    began = time.time()
    return {"value": fibo(n), "began": began, "ended": time.time()}


async def quick_value(n: int) -> dict:
    return value(n)
"""


def fibo(n: int) -> int:
    """What the handlers compute, for comparison."""
    return n if n < 2 else fibo(n - 1) + fibo(n - 2)


_NAMES = ("slow", "add", "value", "quick_value")


def install(folder: Path) -> Path:
    """The folder that has to be on PYTHONPATH. The handlers are `pipeline.slow` and so on."""
    packages = folder / "packages"
    info = packages / "pipeline-1.dist-info"
    info.mkdir(parents=True)
    (packages / "pipeline.py").write_text(_MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pipeline\nVersion: 1\n")
    lines = "".join(f"pipeline.{name} = pipeline:{name}\n" for name in _NAMES)
    (info / "entry_points.txt").write_text(f"[rgrid.handlers]\n{lines}")
    return packages
