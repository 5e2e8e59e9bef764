"""Tab completes commands, options, files, statuses and ids; in bash and zsh as it is typed on a terminal."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from neighbours import needs
from running_grid import Grid
from terminal import Terminal

from rgrid.cli.completion import FILES, FOLDERS, offers
from rgrid.cli.executions import STATUSES
from rgrid.cli.main import COMMANDS
from rgrid.client.grid import Submission


def words(*typed: str) -> list[str]:
    return [offer.word for offer in offers(typed)]


def test_commands_are_completed_with_what_they_do() -> None:
    assert words("") == list(COMMANDS)
    assert [(offer.word, offer.says) for offer in offers(["stat"])] == [("status", COMMANDS["status"].says)]
    assert words("--profile", "x", "st") == ["status"]
    assert words("help", "wh") == ["whoami"]
    assert words("nothing", "") == []


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_completes_its_options(name: str) -> None:
    found = words(name, "--")
    assert {"--help", "--json"} <= set(found)
    assert all(word.startswith("--") for word in found)


def test_what_an_option_takes_is_completed() -> None:
    assert words("list", "--status", "") == list(STATUSES)
    assert words("list", "--status=c") == ["--status=completed", "--status=cancelled"]
    assert words("run", "--output-dir", "") == [FOLDERS]
    assert words("run", "--env-file", "") == [FILES]
    assert words("run", "--name", "") == []
    assert words("keys", "") == ["create", "list", "rotate", "revoke"]
    assert words("key", "create", "x", "--scope", "") == ["read", "run", "admin"]
    assert words("completion", "") == ["bash", "zsh", "fish"]


def test_what_belongs_to_the_script_is_completed_as_files() -> None:
    assert words("run", "") == [FILES]
    assert words("run", "--network", "script.py", "--ti") == [FILES]
    assert words("run", "--", "script.py", "") == [FILES]
    assert words("run", "--ti") == ["--timeout"]


def test_ids_come_from_the_service(grid: Grid) -> None:
    with grid.client() as client:
        made = client.submit(Submission(script_content="print(1)"))
        client.wait(made.execution_id, 60)
    done = grid.rgrid("completion", "words", "status", made.execution_id[:-1])
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [made.execution_id]
    assert "completed" in done.stdout
    assert made.execution_id not in grid.rgrid("completion", "words", "cancel", "").stdout
    assert "python:" in grid.rgrid("completion", "words", "run", "--runtime", "").stdout


def test_without_a_service_nothing_is_said(grid: Grid) -> None:
    done = grid.rgrid("completion", "words", "status", "", env={"RGRID_API_URL": "http://127.0.0.1:1"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def environment(grid: Grid, tmp_path: Path) -> dict[str, str]:
    """With an `rgrid` on the path, and a script and a folder lying about."""
    program = tmp_path / "bin" / "rgrid"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m rgrid "$@"\n')
    program.chmod(0o755)
    (tmp_path / "script.py").touch()
    return {**grid.environment(), "PATH": f"{program.parent}:/usr/bin:/bin", "ZDOTDIR": str(tmp_path)}


@pytest.fixture
def bash(environment: dict[str, str], tmp_path: Path) -> Iterator[Terminal]:
    """A bash on a terminal, as somebody has it who followed the instructions."""
    (tmp_path / "rc").write_text('bind "set bell-style none"\nPS1="> "\neval "$(rgrid completion bash)"\necho ready\n')
    with Terminal(["bash", "--noprofile", "--rcfile", tmp_path / "rc", "-i"], environment, tmp_path) as terminal:
        terminal.until("ready\n> ")
        yield terminal


@pytest.fixture
def zsh(environment: dict[str, str], tmp_path: Path) -> Iterator[Terminal]:
    """The same with a zsh. It draws only what changes, so Ctrl-X shows the whole line in brackets."""
    needs("zsh", "zsh")
    (tmp_path / ".zshrc").write_text(
        "unsetopt beep; PS1='> '\nautoload -Uz compinit && compinit -u -D\n"
        'eval "$(rgrid completion zsh)"\nshow() { zle -M "[$BUFFER]" }\n'
        "zle -N show\nbindkey '^X' show\necho ready\n"
    )
    with Terminal(["zsh", "--no-globalrcs", "-i"], environment, tmp_path) as terminal:
        terminal.until("ready\n")
        yield terminal


TYPED = [
    ("rgrid whoa\t", "rgrid whoami "),
    ("rgrid list --status comp\t", "rgrid list --status completed "),
    ("rgrid list --status=comp\t", "rgrid list --status=completed "),
    ("rgrid keys cre\t", "rgrid keys create "),
    ("rgrid run --out\t", "rgrid run --output-dir "),
    ("rgrid run scr\t", "rgrid run script.py "),
    ("rgrid run --runtime bas\t", "rgrid run --runtime bash "),
]


@pytest.mark.parametrize(("typed", "completed"), TYPED)
def test_bash_completes_what_is_typed(bash: Terminal, typed: str, completed: str) -> None:
    bash.type(typed)
    bash.until(completed)


@pytest.mark.parametrize(("typed", "completed"), TYPED)
def test_zsh_completes_what_is_typed(zsh: Terminal, typed: str, completed: str) -> None:
    zsh.type(typed + "\x18")
    zsh.until(f"[{completed}]")


def test_zsh_says_what_the_words_mean_and_ids_come_from_the_service(zsh: Terminal, grid: Grid) -> None:
    with grid.client() as client:
        made = client.submit(Submission(script_content="print(1)"))
        client.wait(made.execution_id, 60)
    zsh.type(f"rgrid status {made.execution_id[:-2]}\t\x18")
    zsh.until(f"[rgrid status {made.execution_id} ]")
    zsh.type("\x15rgrid stat\t\x18")
    zsh.until("[rgrid status ]")
    zsh.type("\x15rgrid run --runtime python:\t\t")
    zsh.until("python:3.11")
