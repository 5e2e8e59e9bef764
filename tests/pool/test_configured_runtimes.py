"""Runtimes by configuration: what may be one."""

import sys
from pathlib import Path

import pytest

from rgrid.kernel.errors import Invalid
from rgrid.pool.interpreters import configured, identity


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("python:3.99", ["/usr/bin/env"]),
        ("node", ["/usr/bin/env"]),
        ("sh", ["/usr/bin/env"]),
        ("py311", ["/usr/bin/env"]),
        ("R", ["/usr/bin/env"]),
        ("r 4", ["/usr/bin/env"]),
        ("r:", ["/usr/bin/env"]),
        ("", ["/usr/bin/env"]),
        ("r", []),
        ("r", ["env"]),
        ("r", ["/nowhere/at/all"]),
        ("r", ["/usr"]),
        ("r", ["/etc/passwd"]),
    ],
)
def test_what_can_not_be_a_runtime_is_refused_by_its_name(name: str, command: list[str]) -> None:
    with pytest.raises(Invalid, match="RGRID_RUNTIMES: "):
        configured({name: command})


def test_a_program_brings_its_arguments_and_what_lies_around_it() -> None:
    (plain, elsewhere) = configured({"env:1.2": ["/usr/bin/env", "-S"], "mine": [sys.executable]})
    assert (plain.runtime, plain.arguments, plain.prefixes) == ("env:1.2", ("-S",), ())
    program = Path(elsewhere.program)
    assert elsewhere.prefixes in ((str(program.parent.parent),), ())
    assert identity(plain) is None
