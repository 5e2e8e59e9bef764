"""The pages say what is true: the README's two commands, the settings, the links."""

import re
from pathlib import Path

import published
import pytest

from rgrid.settings import Settings, describe

TREE = Path(__file__).resolve().parent.parent
PAGES = sorted([TREE / "README.md", *(TREE / "docs").rglob("*.md")])


def test_the_ci_runs_the_second_command_of_the_readme_to_the_letter() -> None:
    commands = re.findall(r"^sh \.ci/setup.*$", (TREE / "README.md").read_text(), re.MULTILINE)
    assert commands == ["sh .ci/setup && .venv/bin/rgrid demo", "sh .ci/setup dev && .venv/bin/python -m pytest"]
    assert commands[1] in (TREE / ".ci/run").read_text().splitlines()


def test_the_operating_page_lists_every_setting_and_no_other() -> None:
    page = (TREE / "docs/operating.md").read_text()
    rows = re.findall(r"^\| `(RGRID_\w+)` \| .* \| (.*) \|$", page, re.MULTILINE)
    assert rows == [(setting.name, setting.meaning) for setting in describe(Settings())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(TREE).as_posix())
def test_a_page_links_only_to_what_is_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_decision_is_listed() -> None:
    folder = TREE / "docs/decisions"
    records = {path.name for path in folder.glob("[0-9]*.md")}
    assert set(re.findall(r"\]\((\d{4}[^)]*)\)", (folder / "README.md").read_text())) == records


@pytest.mark.parametrize("path", published.FILES, ids=lambda path: path.name)
def test_what_is_made_of_the_code_is_as_the_code_makes_it(path: Path) -> None:
    assert path.read_bytes() == published.FILES[path](), "write it anew with: python tests/published.py"
