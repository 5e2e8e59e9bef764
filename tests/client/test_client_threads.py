"""The objects of answers are made by any number of threads at once."""

import subprocess
import sys

FIRST_USES = """
import sys, threading
from msgspec import defstruct
from rgrid.kernel.converting import convert

sys.setswitchinterval(1e-6)
THREADS, KINDS = 4, 200

for number in range(KINDS):
    inner = defstruct(f"Inner{number}", [(f"a{n}", int | None, None) for n in range(30)])
    outer = defstruct(f"Outer{number}", [(f"b{n}", inner | None, None) for n in range(20)])
    together = threading.Barrier(THREADS)

    def use(kind=outer):
        together.wait()
        made = convert({"b3": {"a29": 3}, "b19": {"a2": 1}}, kind)
        assert (made.b3.a29, made.b19.a2) == (3, 1)

    threads = [threading.Thread(target=use) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print("done")
"""


def test_threads_that_meet_a_type_for_the_first_time_together_do_not_break_each_other() -> None:
    ended = subprocess.run([sys.executable, "-c", FIRST_USES], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr
