"""What a test needs beside Python: a missing neighbour skips the test and names the Debian package that has it."""

import importlib.util
import os
import shutil

import pytest


def needs(neighbour: str, debian_package: str) -> None:
    """Skip the test when there is neither a program nor a module of this name; fail it when RGRID_TEST_STRICT=1."""
    if shutil.which(neighbour) or _importable(neighbour):
        return
    reason = f"{neighbour} is missing: apt install {debian_package}"
    if os.environ.get("RGRID_TEST_STRICT") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):
        return False
