"""What the command line says without a service: help, mistakes, and how little it loads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from running_grid import SOURCES

from rgrid.cli.main import COMMANDS, GROUPS
from rgrid.cli.output import duration, plain, size

HEAVY = (
    "litestar",
    "uvicorn",
    "asyncpg",
    "aiobotocore",
    "botocore",
    "aiohttp",
    "asyncio",
    "rich",
    "websockets",
    "uvloop",
    "yaml",
)


def rgrid(home: Path, *words: str, code: str = "") -> subprocess.CompletedProcess[str]:
    program = ["-c", code] if code else ["-m", "rgrid", *words]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": SOURCES}
    return subprocess.run(
        [sys.executable, *program], env=environment, cwd=home, capture_output=True, text=True, timeout=60
    )


def test_the_help_has_one_line_for_each_command(tmp_path: Path) -> None:
    done = rgrid(tmp_path, "--help")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    for name, command in COMMANDS.items():
        assert [line for line in lines if line.split()[:1] == [name] and line.endswith(command.says)], name
    assert max(map(len, lines)) <= 80
    assert "Examples:" in done.stdout


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_with_an_example(name: str, tmp_path: Path) -> None:
    done = rgrid(tmp_path, name, "--help")
    assert done.returncode == 0, done.stderr
    assert "Example" in done.stdout
    assert f"rgrid {name}" in done.stdout or f"rgrid {name.replace('init', 'login')}" in done.stdout
    assert "--json" in done.stdout


def test_no_command_stands_in_two_groups() -> None:
    names = [name for group in GROUPS.values() for name in group]
    assert len(names) == len(set(names))


def test_commands_that_talk_to_a_service_load_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom rgrid.cli.main import main\n"
        "for words in (['whoami'], ['list'], ['status', 'x'], ['run', 'x.py'], ['logs', 'x'], ['keys', 'list'], [],\n"
        "              ['workflows', 'list'], ['workflows', 'watch', 'x'], ['schedules', 'preview']):\n"
        "    main(words)\n"
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert rgrid(tmp_path, code=code).stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize(
    ("words", "said", "following"),
    [
        (["statsu", "x"], "There is no command statsu.", "rgrid status --help"),
        (["status"], "required: ID", "rgrid status --help"),
        (["list", "--limit", "0"], "above 0", "rgrid list --help"),
        (["--verbose", "list"], "There is no option --verbose", "rgrid --help"),
        (["run"], "Which script?", "rgrid run --help"),
        (["run", "none.py"], "There is no script none.py.", "rgrid run --help"),
    ],
)
def test_a_mistake_is_one_message_with_the_next_command(
    words: list[str], said: str, following: str, tmp_path: Path
) -> None:
    done = rgrid(tmp_path, *words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert done.stderr.endswith(f"Next: {following}\n")
    assert "Traceback" not in done.stderr


def test_without_a_key_it_says_where_to_get_one(tmp_path: Path) -> None:
    done = rgrid(tmp_path, "list")
    assert done.returncode == 1
    assert "rgrid up" in done.stderr
    assert "rgrid login" in done.stderr


def test_a_failure_is_a_document_for_programs(tmp_path: Path) -> None:
    done = rgrid(tmp_path, "list", "--json")
    assert json.loads(done.stdout)["error"]["next"].startswith("rgrid up")


def test_reading_from_an_address_where_nothing_is_fails_at_once(tmp_path: Path) -> None:
    done = rgrid(tmp_path, "whoami", "--api-url", "http://127.0.0.1:1", "--api-key", "x")
    assert done.returncode == 1
    assert "Nothing answers at http://127.0.0.1:1: connection refused." in done.stderr
    assert "trying again" not in done.stderr


def test_login_without_a_terminal_names_the_flag_to_give(tmp_path: Path) -> None:
    done = rgrid(tmp_path, "login", "--api-url", "http://127.0.0.1:1")
    assert done.returncode == 2
    assert "--api-key" in done.stderr
    assert not (tmp_path / ".rgrid").exists()


def test_the_interface_document_needs_no_service(tmp_path: Path) -> None:
    done = rgrid(tmp_path, "openapi")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["openapi"].startswith("3.1")


def test_text_from_elsewhere_can_not_steer_the_terminal() -> None:
    assert plain("a\x1b[31mb\r\nc") == "a [31mb  c"


@pytest.mark.parametrize(
    ("milliseconds", "shown"), [(None, "-"), (224, "0.22 s"), (61_000, "1 min 01 s"), (3_725_000, "1 h 02 min")]
)
def test_durations_are_shown_in_the_unit_that_fits(milliseconds: int | None, shown: str) -> None:
    assert duration(milliseconds) == shown


@pytest.mark.parametrize(("count", "shown"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (8_258_905, "8.3 MB")])
def test_sizes_are_shown_in_the_unit_that_fits(count: int, shown: str) -> None:
    assert size(count) == shown
