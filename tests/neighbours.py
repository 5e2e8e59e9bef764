"""What a test needs beside Python: a missing neighbour skips the test and names the Debian package that has it."""

import importlib.util
import os
import shutil
import subprocess

import pytest

SYSTEM_PYTHON = "/usr/bin/python3"


def needs(neighbour: str, debian_package: str) -> None:
    """Skip the test when there is neither a program nor a module of this name; fail it when RGRID_TEST_STRICT=1."""
    if shutil.which(neighbour) or _importable(neighbour):
        return
    _without(f"{neighbour} is missing: apt install {debian_package}")


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def needs_of_system(module: str, debian_package: str) -> None:
    """The same for a module of Debian's own interpreter."""
    found = shutil.which(SYSTEM_PYTHON) and subprocess.run(
        [SYSTEM_PYTHON, "-c", f"import {module}"], capture_output=True
    )
    if found and found.returncode == 0:
        return
    _without(f"{module} is missing: apt install {debian_package}")


def _without(reason: str) -> None:
    if os.environ.get("RGRID_TEST_STRICT") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
