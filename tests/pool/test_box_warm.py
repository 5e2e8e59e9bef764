"""A copy of a warm interpreter is, to the script, a fresh one."""

import contextlib
import os
import signal
from pathlib import Path

import psutil
import pytest
from pool.boxes import Boxes, Ran, printed

from rgrid.pool.warm import WarmHosts

STATE = """
import sys
first = sorted(sys.modules)
import os, gc, threading, signal
print(first)
print(sys.argv, getattr(sys, "orig_argv", None), sys.path, sys.flags, sys.executable, sys.prefix, sys.base_prefix)
print(sorted(globals()), __name__, __file__, __spec__, __package__, type(__loader__).__name__, __loader__.path)
print(os.getcwd(), sys.stdout.encoding, sys.stdout.errors, sys.stdin.encoding, sys.stdout.line_buffering)
print(sys.getrecursionlimit(), sys.getswitchinterval(), sys.dont_write_bytecode, sys.warnoptions, sys.gettrace())
print(threading.current_thread() is threading.main_thread(), threading.active_count())
print([(s, signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)])
print(sys.modules["__main__"].__dict__ is globals(), sys.stdin.read(), os.umask(0), len(sys.path_hooks), gc.isenabled())
"""
RAISES = """
def inner():
    raise ValueError("as it is")
def outer():
    try:
        inner()
    except ValueError as error:
        raise RuntimeError("chained") from error
outer()
"""
LATE = """
import atexit, sys, threading, time
atexit.register(lambda: print("at exit"))
class Last:
    def __del__(self):
        print("deleted")
kept = Last()
def late():
    time.sleep(0.1)
    print("thread")
threading.Thread(target=late).start()
sys.stdout.write("no newline ")
sys.exit("a message")
"""
LEFT_OPEN = """
import logging, os, sys, weakref
held = open("/work/held", "w")
held.write("held")
class Cycle:
    def __init__(self):
        self.me = self
        self.file = open("/work/cycle", "w")
        self.file.write("cycle")
    def __del__(self):
        print("cycle deleted")
Cycle()
kept = Cycle()
def closure(inner=open("/work/default", "w")):
    return inner
closure().write("default")
class Lasting:
    handle = open("/work/class", "w")
Lasting.handle.write("class")
logging.basicConfig(filename="/work/log")
logging.warning("logged")
sys.modules["mine"] = module = type(sys)("mine")
module.file = open("/work/module", "w")
module.file.write("module")
weakref.finalize(kept, print, "finalized")
del module
undefined
"""
USES_PROCESSES = """
import concurrent.futures, multiprocessing, subprocess, sys
def square(number):
    return number * number
if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(method, pool.map(square, range(4)))
    print(subprocess.run([sys.executable, "-c", "print('child')"], capture_output=True, text=True).stdout.strip())
    with concurrent.futures.ThreadPoolExecutor() as threads:
        print(list(threads.map(square, range(3))))
"""
IMPORTS_MUCH = """
import argparse, asyncio, csv, ctypes, dataclasses, datetime, decimal, email, enum, hashlib, http.client, importlib
import inspect, json, logging, pickle, random, re, resource, select, selectors, socket, sqlite3, ssl, statistics, struct
import tempfile, typing, unittest, urllib.request, uuid, xml.etree.ElementTree, zipfile, zoneinfo
print(re.fullmatch("a+", "aaa").group(), pickle.loads(pickle.dumps(re.compile("x"))).pattern)
print(ctypes.CDLL(None).getpid() > 0, struct.pack("<I", 7), json.dumps({"a": [1]}))
print(inspect.getsource(sys.modules["__main__"])[:8] if (sys := __import__("sys")) else "")
async def main():
    process = await asyncio.create_subprocess_exec("echo", "async", stdout=asyncio.subprocess.PIPE)
    print((await process.communicate())[0].decode().strip())
asyncio.run(main())
"""


def through_both(cold: Boxes, warm: Boxes, script: str | bytes, **changes: object) -> tuple[Ran, Ran]:
    ran = cold.run(script, **changes), warm.run(script, **changes)
    assert [one.ended.metadata["start"] for one in ran] == ["cold", "warm"]
    return ran


@pytest.mark.parametrize("script", [STATE, RAISES, LATE, USES_PROCESSES, IMPORTS_MUCH])
def test_a_copy_behaves_like_a_fresh_interpreter(cold_boxes: Boxes, warm_boxes: Boxes, script: str) -> None:
    cold, warm = through_both(cold_boxes, warm_boxes, script, args=["one", "--two"])
    assert (warm.out, warm.err, warm.ended.exit_code) == (cold.out, cold.err, cold.ended.exit_code)
    assert warm.out or warm.err


def test_what_a_script_left_open_is_written_out(cold_boxes: Boxes, warm_boxes: Boxes) -> None:
    cold, warm = through_both(cold_boxes, warm_boxes, LEFT_OPEN)
    assert sorted(warm.out.splitlines()) == sorted(cold.out.splitlines())
    assert warm.err == cold.err
    files = [{path.name: path.read_text() for path in ran.work.iterdir()} for ran in (cold, warm)]
    assert files[0] == files[1]
    assert len(files[1]) == 6


@pytest.mark.parametrize(
    "script",
    [
        b"import sys\ndef hook(*a): raise ValueError\nsys.excepthook = hook\n1/0",
        b"raise KeyboardInterrupt",
        b"import atexit\n@atexit.register\ndef f(): 1/0",
        b"import sys\nsys.stdout = None",
        b"import sys\nclass Broken:\n  def flush(self): raise OSError('gone')\nsys.stdout = Broken()",
        b"import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        b"def broken(:\n",
        b"# coding: latin-1\nprint(ascii('\xe9'))",
        b"\xef\xbb\xbfprint('after a mark')",
        b"",
        b"raise SystemExit",
        b"raise SystemExit(300)",
        b"raise SystemExit('words')",
        b"import sys\nsys.excepthook = lambda *a: print('hooked')\n1/0",
        b"import nothing_like_it",
        b"1/0",
        b"import os\nos._exit(9)",
        b"import os\nos.close(1)\nprint('x')",
        b"exit(4)",
        b"from __future__ import annotations\ndef f(x: nothing): pass\nprint(f.__annotations__)",
        b"x: int = 1\nprint(__annotations__)",
    ],
)
def test_a_copy_ends_like_a_fresh_interpreter(cold_boxes: Boxes, warm_boxes: Boxes, script: bytes) -> None:
    cold, warm = through_both(cold_boxes, warm_boxes, script)
    assert (warm.out, warm.ended.exit_code) == (cold.out, cold.ended.exit_code)
    assert warm.err.splitlines()[-1:] == cold.err.splitlines()[-1:]


@pytest.mark.parametrize("minor", [9, 10, 11, 12, 13, 14])
def test_every_python_can_be_copied(cold_boxes: Boxes, warm_boxes: Boxes, minor: int) -> None:
    runtime = f"python:3.{minor}"
    if runtime not in warm_boxes.engine.runtimes():
        pytest.skip(f"{runtime} is not installed: pyenv install 3.{minor}")
    cold, warm = through_both(cold_boxes, warm_boxes, STATE, runtime=runtime)
    assert (warm.out, warm.err) == (cold.out, cold.err)


def test_chance_differs_from_copy_to_copy(warm_boxes: Boxes) -> None:
    script = (
        "import os, random, secrets, uuid\nprint(random.random(), os.urandom(4), secrets.token_hex(4), uuid.uuid4())"
    )
    seen = [warm_boxes.run(script) for _ in range(3)]
    assert [ran.ended.metadata["start"] for ran in seen] == ["warm"] * 3
    parts = [part for ran in seen for part in ran.out.split()]
    assert len(set(parts)) == len(parts)


def test_nothing_of_one_script_is_in_the_memory_of_the_next(warm_boxes: Boxes) -> None:
    warm_boxes.run("import os\nsecret = os.environ['TOKEN']", env={"TOKEN": "zyxw" * 8}, args=["vuts" * 8])
    script = """
found = 0
for line in open("/proc/self/maps"):
    place, rights = line.split()[:2]
    if not rights.startswith("rw"):
        continue
    start, end = (int(part, 16) for part in place.split("-"))
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        memory.seek(start)
        try:
            data = memory.read(end - start)
        except OSError:
            continue
    found += data.count(("zy" + "xw").encode() * 4) + data.count(("vu" + "ts").encode() * 4)
print(found)
"""
    ran = warm_boxes.run(script)
    assert (ran.out, ran.ended.metadata["start"]) == ("0\n", "warm")


def test_a_variable_that_python_reads_at_its_start_is_honoured_by_a_cold_start(warm_boxes: Boxes) -> None:
    ran = warm_boxes.run("print(hash('x'))", env={"PYTHONHASHSEED": "0"})
    again = warm_boxes.run("print(hash('x'))", env={"PYTHONHASHSEED": "0"})
    assert ran.out == again.out
    assert ran.ended.metadata["start"] == "cold"


def test_the_time_zone_of_a_script_is_its_own(warm_boxes: Boxes) -> None:
    ran = warm_boxes.run("import time\nprint(time.tzname[0], time.localtime(0).tm_hour)", env={"TZ": "EST5"})
    assert (ran.out, ran.ended.metadata["start"]) == ("EST 19\n", "warm")


def warm_host() -> psutil.Process:
    """The warm Python itself: bubblewrap is its parent, its copies have it as theirs. Services that other tests keep
    running have hosts of their own."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            parent = process.parent()
            is_warm = parent and parent.name() == "bwrap" and "python3.11/bin" in " ".join(process.cmdline()[:1])
            if is_warm and not any("rgrid" in above.cmdline() for above in process.parents()):
                return process
    raise AssertionError("there is no warm host")


def test_the_death_of_a_warm_host_ends_its_scripts_and_the_next_gets_a_new_one(warm_boxes: Boxes) -> None:
    async def ended_by_its_host() -> Ran:
        under = await warm_boxes.begin("print('up', flush=True)\nimport time\ntime.sleep(60)")
        await printed(under, b"up")
        warm_host().send_signal(signal.SIGKILL)
        return Ran(ended=await under.run.wait(), chunks=under.chunks, work=under.work)

    ran = warm_boxes.do(ended_by_its_host())
    assert (ran.ended.why, ran.ended.exit_code) == ("internal", None)
    after = warm_boxes.run("print(1)")
    assert (after.out, after.ended.metadata["start"]) == ("1\n", "warm")


def test_without_a_warm_host_scripts_start_cold(warm_boxes: Boxes) -> None:
    usual = warm_boxes.engine.warm
    warm_boxes.engine.warm = WarmHosts(lambda _: ["/bin/false"])
    try:
        ran = warm_boxes.run("print(1)")
    finally:
        warm_boxes.engine.warm = usual
    assert (ran.out, ran.ended.metadata["start"]) == ("1\n", "cold")


def test_a_warm_host_has_an_empty_environment_of_its_own(warm_boxes: Boxes) -> None:
    warm_boxes.run("print(1)")
    known = {
        b"HOME",
        b"LANG",
        b"TMPDIR",
        b"PATH",
        b"PWD",
        b"PYTHONUNBUFFERED",
        b"PYTHONDONTWRITEBYTECODE",
        b"PYTHONPATH",
        b"",
    }
    for process in psutil.Process().children(recursive=True):
        if any("box_host" in arg for arg in process.cmdline()):
            shown = Path(f"/proc/{process.pid}/environ").read_bytes()
            names = {part.partition(b"=")[0] for part in shown.split(b"\0")}
            assert names <= known
    assert "BOXES_SECRET" in os.environ
