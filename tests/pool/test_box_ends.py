"""How a run ends, and how each end is told from the others."""

import signal
import time

import pytest
from pool.boxes import Boxes, Ran, printed

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True:
    time.sleep(1)
"""
GENTLE = """
import signal, sys, time
def bye(*_):
    print("bye", flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, bye)
print("ready", flush=True)
while True:
    time.sleep(1)
"""
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True:
            with open("/work/beat", "a") as file:
                file.write("x")
            time.sleep(0.01)
    os._exit(0)
os.wait()
while not os.path.exists("/work/beat"):
    time.sleep(0.01)
print("done")
"""


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_the_exit_code_is_the_scripts(boxes: Boxes, code: int) -> None:
    ended = boxes.run(f"import sys\nsys.exit({code})").ended
    assert (ended.why, ended.exit_code) == ("exited", code)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGINT, signal.SIGPIPE])
def test_a_signal_ends_it_with_128_and_its_number(boxes: Boxes, number: signal.Signals) -> None:
    script = f"import os, signal\nsignal.signal({int(number)}, signal.SIG_DFL)\nos.kill(os.getpid(), {int(number)})"
    if number == signal.SIGKILL:
        script = "import os\nos.kill(os.getpid(), 9)"
    assert boxes.run(script).ended.exit_code == 128 + number


def test_both_streams_come_apart_and_in_the_order_of_their_arrival(boxes: Boxes) -> None:
    script = """
import os, time
for number in range(5):
    os.write(1, b"out%d " % number)
    time.sleep(0.02)
    os.write(2, b"err%d " % number)
    time.sleep(0.02)
"""
    ran = boxes.run(script)
    assert b"".join(data for _, data in ran.chunks) == b"".join(b"out%d err%d " % (n, n) for n in range(5))
    assert ran.out == "out0 out1 out2 out3 out4 "


def test_output_is_seen_while_the_script_runs(boxes: Boxes) -> None:
    async def watch() -> Ran:
        under = await boxes.begin("print('early')\nimport time\nwhile True: time.sleep(1)")
        await printed(under, b"early\n")
        under.run.kill()
        return Ran(ended=await under.run.wait(), chunks=under.chunks, work=under.work)

    assert boxes.do(watch()).ended.why == "cancelled"


def test_nothing_printed_is_lost_at_the_end(boxes: Boxes) -> None:
    ran = boxes.run("import os\nfor _ in range(100): os.write(1, b'x' * 10000)")
    assert len(ran.out) == 1_000_000


def test_bytes_that_are_no_text_pass_unchanged(boxes: Boxes) -> None:
    every = bytes(range(256))
    assert boxes.run("import os\nos.write(1, bytes(range(256)))").of("stdout") == every


def test_arguments_that_are_no_text_pass_unchanged(boxes: Boxes) -> None:
    odd = ["a\udcffb", "--x=1", "", "é 漢", "*", "$HOME"]
    ran = boxes.run("import os, sys\nprint([os.fsencode(arg) for arg in sys.argv[1:]])", args=odd)
    assert ran.out.strip() == repr([arg.encode("utf-8", "surrogateescape") for arg in odd])


def test_many_arguments_and_a_large_environment_pass(boxes: Boxes) -> None:
    args = [f"{number:0100}" for number in range(5_000)]
    script = "import os, sys\nprint(len(sys.argv), len(os.environ['BIG']))"
    assert boxes.run(script, args=args, env={"BIG": "x" * 100_000}).out == "5001 100000\n"


def test_a_time_limit_kills_the_whole_tree_and_keeps_what_was_printed(boxes: Boxes) -> None:
    begun = time.monotonic()
    ran = boxes.run("print('early')\nimport os, time\nos.fork()\nwhile True: time.sleep(1)", timeout_s=1.0)
    assert (ran.ended.why, ran.ended.exit_code) == ("timeout", None)
    assert time.monotonic() - begun < 1.0 + 5.0
    assert ran.out == "early\n"


def test_a_script_that_ignores_sigterm_is_killed_at_its_time_limit(boxes: Boxes) -> None:
    assert boxes.run(STUBBORN, timeout_s=1.0).ended.why == "timeout"


def test_cancel_lets_a_script_clean_up(boxes: Boxes) -> None:
    async def cancelled() -> Ran:
        under = await boxes.begin(GENTLE)
        await printed(under, b"ready\n")
        under.run.cancel()
        return Ran(ended=await under.run.wait(), chunks=under.chunks, work=under.work)

    ran = boxes.do(cancelled())
    assert (ran.ended.why, ran.ended.exit_code) == ("cancelled", 3)
    assert ran.out == "ready\nbye\n"


def test_cancel_kills_a_script_that_ignores_it(boxes: Boxes) -> None:
    async def cancelled() -> Ran:
        under = await boxes.begin(STUBBORN)
        await printed(under, b"ready\n")
        under.run.cancel()
        return Ran(ended=await under.run.wait(), chunks=under.chunks, work=under.work)

    ran = boxes.do(cancelled())
    assert (ran.ended.why, ran.ended.exit_code) == ("cancelled", 137)


def test_cancel_right_after_the_start_works_too(boxes: Boxes) -> None:
    async def cancelled() -> Ran:
        under = await boxes.begin("import time\nwhile True: time.sleep(1)")
        under.run.cancel()
        return Ran(ended=await under.run.wait(), chunks=under.chunks, work=under.work)

    assert boxes.do(cancelled()).ended.why == "cancelled"


def test_a_grandchild_that_outlives_the_script_is_gone_when_the_run_is(boxes: Boxes) -> None:
    ran = boxes.run(DAEMON)
    assert ran.out == "done\n"
    size = (ran.work / "beat").stat().st_size
    time.sleep(0.1)
    assert (ran.work / "beat").stat().st_size == size


def test_a_script_that_closes_its_output_still_ends_in_its_own_time(boxes: Boxes) -> None:
    ended = boxes.run("import os, time\nos.close(1)\nos.close(2)\ntime.sleep(0.3)\nos._exit(5)").ended
    assert ended.exit_code == 5
    assert ended.duration_ms >= 300


def test_an_unknown_runtime_is_unavailable(boxes: Boxes) -> None:
    ended = boxes.run("", runtime="cobol").ended
    assert (ended.why, ended.exit_code) == ("runtime_unavailable", None)


def test_a_folder_outside_the_engines_is_refused(boxes: Boxes, tmp_path_factory: pytest.TempPathFactory) -> None:
    ended = boxes.run("print(1)", work_dir=tmp_path_factory.mktemp("elsewhere")).ended
    assert ended.why == "internal"
    assert ended.error is not None and "is not below" in ended.error


def test_many_runs_at_once_do_not_mix(boxes: Boxes) -> None:
    async def all_of_them() -> list[Ran]:
        begun = [await boxes.begin(f"import os\nprint({n}, os.listdir('/work'))") for n in range(12)]
        return [Ran(ended=await one.run.wait(), chunks=one.chunks, work=one.work) for one in begun]

    assert [ran.out for ran in boxes.do(all_of_them())] == [f"{n} []\n" for n in range(12)]
