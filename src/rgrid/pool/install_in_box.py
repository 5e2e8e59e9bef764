"""The program inside the installer's box: it makes a virtual environment beside it, lets uv fill it, and compiles it.

It runs alone with the very Python that the environment is for, and knows nothing of rgrid. Arguments: the uv program,
then options of `uv pip install`.
"""

import os
import subprocess
import sys
import time

PLACE = "environment"
# Nobody imports a package's own tests, and they can be more than the rest of it.
NOT_COMPILED = r"[\\/]tests?[\\/]"
UNTOLD = b"Using Python "  # uv's name for the place means nothing outside this box


def main(uv: str, options: "list[str]") -> int:
    """0, or the exit code of the step that failed."""
    python = os.path.realpath(sys.executable)
    steps = (
        [uv, "venv", "--quiet", "--relocatable", "--no-project", "--python", python, PLACE],
        [uv, "pip", "install", "--python", f"{PLACE}/bin/python", "--requirements", "requirements.txt", *options],
    )
    for step in steps:
        code = run(step)
        if code != 0:
            return code if code > 0 else 128 - code
    compile_all(python)
    return 0


def run(step: "list[str]") -> int:
    """Passes on what it says, line by line."""
    with subprocess.Popen(step, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.startswith(UNTOLD):
                sys.stderr.buffer.write(line)
                sys.stderr.buffer.flush()
    return process.returncode


def compile_all(python: str) -> None:
    """Scripts can't write into the environment, so what imports need is there from the start. What can't be compiled is
    left to whoever imports it. Done by the bare interpreter (-S): that of the environment would run what strangers
    put into it to be run at every start."""
    began = time.monotonic()
    options = ["-q", "-q", "-j", str(len(os.sched_getaffinity(0))), "-x", NOT_COMPILED]
    subprocess.run([python, "-I", "-S", "-m", "compileall", *options, f"{PLACE}/lib"], check=False)
    print(f"Compiled in {time.monotonic() - began:.1f}s", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
