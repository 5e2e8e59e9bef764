"""Scripts that take all they can get: each is stopped, and told apart from the others."""

import time

import psutil
import pytest
from pool.boxes import Boxes, Ran, printed

FORK_BOMB = """
import os, time
made = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
        made += 1
except OSError as error:
    print("stopped after", made, type(error).__name__, flush=True)
"""


def test_a_fork_bomb_is_stopped_at_256_processes_and_leaves_none(boxes: Boxes) -> None:
    before = len(psutil.pids())
    ran = boxes.run(FORK_BOMB)
    assert "BlockingIOError" in ran.out
    assert int(ran.out.split()[2]) < 256
    assert ran.ended.why == "exited"
    assert len(psutil.pids()) < before + 100


def test_a_fork_bomb_that_never_stops_is_ended_by_the_time_limit(boxes: Boxes) -> None:
    begun = time.monotonic()
    ran = boxes.run(":(){ :|:& };:\nwhile :; do :; done", runtime="bash", timeout_s=2.0, name="bomb.sh")
    assert (ran.ended.why, ran.ended.exit_code) == ("timeout", None)
    assert time.monotonic() - begun < 2.0 + 5.0


def test_a_memory_hog_is_killed_and_says_so(boxes: Boxes) -> None:
    ran = boxes.run("hog = []\nwhile True: hog.append(b'x' * (1 << 20))", memory_mb=128)
    if boxes.engine.groups is None:
        assert "MemoryError" in ran.err
        return
    assert (ran.ended.why, ran.ended.exit_code) == ("out_of_memory", 137)
    assert ran.ended.memory_peak_bytes == 128 << 20


def test_a_memory_hog_among_the_children_ends_the_whole_run(boxes: Boxes) -> None:
    if boxes.engine.groups is None:
        pytest.skip("without control groups there is no limit on all processes together")
    script = (
        "import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', 'x = b\"x\" * (1 << 30)'])\ntime.sleep(60)"
    )
    ran = boxes.run(script, memory_mb=128)
    assert (ran.ended.why, ran.ended.exit_code) == ("out_of_memory", 137)


def test_a_script_that_kills_itself_is_not_taken_for_out_of_memory(boxes: Boxes) -> None:
    ran = boxes.run("import os\nos.kill(os.getpid(), 9)")
    assert (ran.ended.why, ran.ended.exit_code) == ("exited", 137)


def test_shared_memory_holds_64_mib(boxes: Boxes) -> None:
    ran = boxes.run(
        "f = open('/dev/shm/x', 'wb')\nwhile True: f.write(b'x' * (1 << 20)); f.flush()", disk_quota_bytes=1 << 30
    )
    assert ran.ended.exit_code == 1
    assert "No space left" in ran.err


def test_a_disk_filler_is_killed_and_says_so(boxes: Boxes) -> None:
    script = """
import itertools
for number in itertools.count():
    with open(f"/work/{number}", "wb") as file:
        file.write(b"x" * (1 << 20))
"""
    ran = boxes.run(script, disk_quota_bytes=16 << 20)
    assert ran.ended.why == "disk_quota"


def test_a_single_file_cannot_outgrow_the_disk_quota(boxes: Boxes) -> None:
    script = "with open('/work/one', 'wb') as file:\n    while True: file.write(b'x' * (1 << 20))"
    ran = boxes.run(script, disk_quota_bytes=16 << 20)
    assert (ran.work / "one").stat().st_size <= 16 << 20
    assert ran.ended.why == "disk_quota" or ran.ended.exit_code != 0


def test_a_million_empty_files_are_not_free(boxes: Boxes) -> None:
    script = "import itertools\nfor number in itertools.count(): open(f'/work/{number}', 'w').close()"
    ran = boxes.run(script, disk_quota_bytes=8 << 20, timeout_s=60.0)
    assert ran.ended.why == "disk_quota"


def test_the_temporary_folder_holds_100_mib(boxes: Boxes) -> None:
    script = """
import os
try:
    file = os.open("/tmp/big", os.O_CREAT | os.O_WRONLY)
    while True:
        os.write(file, b"x" * (1 << 20))
except OSError as error:
    print(error.strerror, os.fstat(file).st_size >> 20)
"""
    ran = boxes.run(script, disk_quota_bytes=1 << 30)
    assert ran.out.startswith("No space left on device")
    assert 98 <= int(ran.out.split()[-1]) <= 101


def test_an_endless_printer_ends_at_its_time_limit_and_starves_nobody(boxes: Boxes) -> None:
    async def both() -> tuple[Ran, Ran]:
        printer = await boxes.begin("while True: print('x' * 1000)", timeout_s=3.0)
        await printed(printer, b"x")
        other = await boxes.begin("print('here')")
        ended = await other.run.wait()
        assert not printer.run._over.done()
        return (
            Ran(ended=await printer.run.wait(), chunks=printer.chunks, work=printer.work),
            Ran(ended=ended, chunks=other.chunks, work=other.work),
        )

    printer, other = boxes.do(both())
    assert (printer.ended.why, printer.ended.exit_code) == ("timeout", None)
    assert len(printer.chunks) > 100
    assert other.out == "here\n"


def test_a_paused_reader_stops_neither_the_clock_nor_the_kill(boxes: Boxes) -> None:
    async def paused() -> Ran:
        under = await boxes.begin("while True: print('x' * 1000)", timeout_s=2.0)
        await printed(under, b"x")
        under.run.pause()
        return Ran(ended=await under.run.wait(), chunks=under.chunks, work=under.work)

    assert boxes.do(paused()).ended.why == "timeout"


def test_more_than_1024_open_files_are_refused(boxes: Boxes) -> None:
    ran = boxes.run("import os\nfiles = []\nwhile True: files.append(os.open('/dev/null', 0))")
    assert "Too many open files" in ran.err


def test_the_cpu_share_holds_for_all_processes_together(boxes: Boxes) -> None:
    if boxes.engine.groups is None:
        pytest.skip("without control groups there is no cpu share")
    script = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        break
end = time.monotonic() + 2
while time.monotonic() < end:
    pass
os.write(1, b"%.3f\\n" % time.process_time())  # in one piece: four processes share the pipe
time.sleep(0.5)
"""
    ran = boxes.run(script, cpu=0.5)
    assert sum(map(float, ran.out.split())) < 2 * 0.5 * 1.5
