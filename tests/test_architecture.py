"""The house: the import contracts and the rules of house.py hold here, and each is proved able to fail."""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import house
import pytest

TREE = Path(__file__).resolve().parent.parent
CONTRACTS = tomllib.loads((TREE / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

# For each contract a module and a line that, added to it, must break that contract.
FORBIDDEN_IMPORTS = [
    ("storeys", "src/rgrid/eventstore/store.py", "import rgrid.executions.events"),
    ("storeys", "src/rgrid/ticker.py", "import rgrid.pool.protocol"),
    ("read-side", "src/rgrid/executions/execution.py", "import projections.executions"),
    ("readers", "src/rgrid/cli/main.py", "import projections.executions"),
    ("read-models-apart", "projections/executions.py", "import projections.artifacts"),
    ("events-only", "projections/executions.py", "import rgrid.executions.commands"),
    ("inside-executions", "src/rgrid/runners/runner.py", "import rgrid.executions.execution"),
    ("inside-runners", "projections/executions.py", "import rgrid.runners.runner"),
    ("inside-workflows", "projections/executions.py", "import rgrid.workflows.commands"),
    ("inside-schedules", "projections/executions.py", "import rgrid.schedules.commands"),
    ("inside-access", "projections/executions.py", "import rgrid.access.keyring"),
    ("pure-decisions", "src/rgrid/executions/execution.py", "import asyncpg"),
    ("pure-decisions", "src/rgrid/runners/runner.py", "import rgrid.kernel.clock"),
    ("no-http-below", "src/rgrid/executions/leases.py", "import rgrid.web.problems"),
    ("client", "src/rgrid/app.py", "import rgrid.client.grid"),
    ("workers-without-database", "src/rgrid/pool/attempt.py", "import rgrid.postgres.pool"),
    ("drivers-at-home", "src/rgrid/api/executions.py", "import aiobotocore"),
    ("drivers-at-home", "projections/executions.py", "import websockets"),
    ("drivers-at-home", "src/rgrid/subscriptions/tail.py", "import eventsourcing.domain"),
]

# For each rule of house.py a file and the text that, put in it, must break that rule.
BROKEN_RULES: dict[Callable[[Path], list[str]], tuple[str, str]] = {
    house.environment_outside_settings: ("src/rgrid/cli/planted.py", "from os import environ\n"),
    house.settings_nobody_reads: ("src/rgrid/settings.py", "class Settings:\n    planted_s: int\n"),
    house.own_clock: ("src/rgrid/pool/planted.py", "import datetime\ndatetime.datetime.now()\n"),
    house.caught_exceptions: ("src/rgrid/pool/planted.py", "try:\n    pass\nexcept Exception:\n    pass\n"),
    house.long_files: ("tests/planted.py", "\n" * 401),
    house.long_functions: ("projections/planted.py", "def long() -> None:\n" + "    pass\n" * 60),
    house.vague_names: ("src/rgrid/pool/helpers.py", '"""Anything."""\n'),
    house.silent_modules: ("src/rgrid/pool/__init__.py", '"""The pool."""\nimport os\n'),
    house.tables_outside_their_pair: ("src/rgrid/api/planted.py", 'SQL = "select * from executions where true"\n'),
    house.unlisted_read_models: ("projections/planted.sql", "create table planted ();\n"),
    house.topics_without_golden: ("tests/eventstore/golden/planted.happened.v1.json", "{}\n"),
    house.migrations_out_of_order: ("src/rgrid/postgres/migrations/9999_planted.sql", "select 1;\n"),
    house.edited_migrations: (house.RELEASED, f"{'0' * 64}  0001_event_store.sql\n"),
    house.undeclared_imports: ("src/rgrid/pool/planted.py", "import httpx\n"),
    house.comments_that_cite_tickets: ("src/rgrid/planted.py", "# Works around issue 12.\n"),
    house.mocks: ("tests/planted.py", "from unittest.mock import Mock\n"),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of everything that the rules look at."""
    folder = tmp_path_factory.mktemp("tree")
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("src", "projections", "tests", "examples"):
        shutil.copytree(TREE / name, folder / name, ignore=ignored)
    shutil.copy(TREE / "pyproject.toml", folder)
    return folder


@pytest.fixture
def plant(copy: Path) -> Iterator[Callable[[str, str], None]]:
    """Puts a text in a file of the copy for the time of one test."""
    with ExitStack() as stack:

        def plant(name: str, text: str) -> None:
            file = copy / name
            if file.exists():
                status = file.stat()
                stack.callback(os.utime, file, ns=(status.st_atime_ns, status.st_mtime_ns))
                stack.callback(file.write_bytes, file.read_bytes())
            else:
                stack.callback(file.unlink)
            file.write_text(text)

        yield plant


def lint_imports(tree: Path, cache: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """`cache` saves reading the files that are as they were."""
    chosen = [argument for contract in contracts for argument in ("--contract", contract)]
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--cache-dir", cache, *chosen],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": f"{tree}/src:{tree}"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("imports")


def test_the_import_contracts_hold(cache: Path) -> None:
    checked = lint_imports(TREE, cache)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_import_contract_is_proved_able_to_fail() -> None:
    assert {contract["id"] for contract in CONTRACTS} == {contract for contract, _, _ in FORBIDDEN_IMPORTS}


@pytest.mark.parametrize(("contract", "file", "line"), FORBIDDEN_IMPORTS)
def test_a_forbidden_import_breaks_its_contract(
    contract: str, file: str, line: str, copy: Path, cache: Path, plant: Callable[[str, str], None]
) -> None:
    plant(file, f"{(copy / file).read_text()}\n{line}\n")
    checked = lint_imports(copy, cache, contract)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert "BROKEN" in checked.stdout, checked.stdout + checked.stderr


def test_a_module_without_a_storey_breaks_the_contract(
    copy: Path, cache: Path, plant: Callable[[str, str], None]
) -> None:
    plant("src/rgrid/stray.py", '"""Belongs nowhere."""\n')
    checked = lint_imports(copy, cache, "storeys")
    assert checked.returncode == 1
    assert "stray" in checked.stdout


@pytest.mark.parametrize("rule", house.RULES, ids=lambda rule: rule.__name__)
def test_a_house_rule_holds(rule: Callable[[Path], list[str]]) -> None:
    assert rule(TREE) == []


def test_every_house_rule_is_proved_able_to_fail() -> None:
    assert set(house.RULES) == BROKEN_RULES.keys()


@pytest.mark.parametrize("rule", house.RULES, ids=lambda rule: rule.__name__)
def test_a_planted_violation_breaks_its_house_rule(
    rule: Callable[[Path], list[str]], copy: Path, plant: Callable[[str, str], None]
) -> None:
    file, text = BROKEN_RULES[rule]
    before = rule(copy)
    plant(file, text)
    assert set(rule(copy)) - set(before), f"{rule.__name__} does not see {file}"
