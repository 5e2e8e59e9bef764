"""A folder of definitions: applied when the service starts and when one changes; what is wrong is said once."""

import asyncio
import logging
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from api.one_service import service
from api.workflow_texts import YAML

from rgrid.api.grid import Grid
from rgrid.api.workflow_folder import WorkflowFolder
from rgrid.assembly import assembled
from rgrid.settings import Settings
from rgrid.workflows.definition import DECIDER

PAUSE = "steps: [{name: pause, type: WAIT, duration_seconds: 1}]\npolicy: {timeout_seconds: 9}\n"


class Folder:
    """A folder, and what is defined by it."""

    def __init__(self, path: Path, grid: Grid, log: pytest.LogCaptureFixture) -> None:
        self.path, self._grid, self._log = path, grid, log
        self.watched = WorkflowFolder(grid, path)

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    async def looks(self, times: int = 2) -> list[str]:
        """What is said in the looks that it takes to see a change."""
        self._log.clear()
        for _ in range(times):
            await self.watched.look()
        return [record.getMessage().replace(f"{self.path}/", "") for record in self._log.records if record.levelno > 20]

    async def version(self, name: str) -> int:
        workflow, _ = await self._grid.handler.load(DECIDER, name)
        return workflow.version if workflow.exists else 0


Test = Callable[[Folder], Coroutine[Any, Any, None]]


@pytest.fixture
def with_folder(database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Callable[[Test], None]:
    def run(test: Test) -> None:
        async def main() -> None:
            settings = Settings(data_dir=tmp_path / "data", encryption_key="00" * 32)
            async with assembled(settings, database) as parts:
                parts.grid.runtimes.found_here(["python:3.11"])
                (tmp_path / "flows").mkdir()
                with caplog.at_level(logging.INFO, logger="rgrid.api.workflow_folder"):
                    await test(Folder(tmp_path / "flows", parts.grid, caplog))

        asyncio.run(main())

    return run


def test_what_lies_there_is_applied_at_once_and_later_changes_when_they_stand_still(
    with_folder: Callable[[Test], None],
) -> None:
    async def test(folder: Folder) -> None:
        folder.write("rain.yaml", "name: weather.rain\n" + YAML)
        folder.write("nap.json", '{"steps": [{"name": "pause", "type": "WAIT", "duration_seconds": 1}]}')
        folder.write("two.yml", f"name: one\n{PAUSE}---\nname: two\n{PAUSE}")
        folder.write("notes.txt", "not: [a, definition")
        folder.write(".hidden.yaml", "not: [a, definition")
        assert await folder.looks(1) == []
        assert [await folder.version(name) for name in ("weather.rain", "nap", "one", "two")] == [1, 1, 1, 1]
        folder.write("nap.json", '{"steps": [{"name": "pause", "type": "WAIT", "duration_seconds": 2}]}')
        await folder.looks(1)
        assert await folder.version("nap") == 1
        await folder.looks(1)
        assert await folder.version("nap") == 2
        folder.write("nap.json", (folder.path / "nap.json").read_text())
        await folder.looks(3)
        assert await folder.version("nap") == 2

    with_folder(test)


def test_what_is_wrong_is_said_once_for_each_content_with_line_and_rule(with_folder: Callable[[Test], None]) -> None:
    async def test(folder: Folder) -> None:
        folder.write("broken.yaml", "steps:\n  - [")
        folder.write("shape.yaml", PAUSE + "bogus: 1\n")
        folder.write("rule.yaml", YAML.replace("then_step: dry off", "then_step: swim"))
        folder.write("reserved.yaml", "name: runs\n" + PAUSE)
        folder.write("good.yaml", PAUSE)
        said = await folder.looks(1)
        assert len(said) == 4
        assert any(line.startswith("broken.yaml:3: Not valid YAML") for line in said)
        assert "shape.yaml:3: bogus: There is no such field." in said
        assert "rule.yaml:21: There is no step swim. (unknown_step)" in said
        assert "reserved.yaml:1: runs is a word of the interface. (reserved_name)" in said
        assert await folder.version("good") == 1
        assert await folder.looks(40) == []
        folder.write("rule.yaml", YAML.replace("then_step: dry off", "then_step: dive"))
        assert await folder.looks() == ["rule.yaml:21: There is no step dive. (unknown_step)"]
        folder.write("rule.yaml", YAML)
        assert await folder.looks() == []
        assert await folder.version("rule") == 1

    with_folder(test)


def test_a_definition_waits_for_the_one_that_it_starts(with_folder: Callable[[Test], None]) -> None:
    async def test(folder: Folder) -> None:
        starts = "steps: [{{name: go, type: WORKFLOW, target_name: {}}}]\npolicy: {{timeout_seconds: 9}}\n"
        folder.write("a.yaml", starts.format("b"))
        folder.write("b.yaml", starts.format("c"))
        folder.write("c.yaml", PAUSE)
        folder.write("d.yaml", starts.format("later"))
        assert await folder.looks(1) == ["d.yaml:1: There is no workflow later. (unknown_workflow)"]
        assert [await folder.version(name) for name in "abc"] == [1, 1, 1]
        folder.write("later.yaml", PAUSE)
        assert await folder.looks() == []
        assert await folder.version("d") == 1

    with_folder(test)


def test_a_folder_that_is_not_there_stops_nothing(with_folder: Callable[[Test], None]) -> None:
    async def test(folder: Folder) -> None:
        folder.path.rmdir()
        assert await folder.looks(3) == [f"{folder.path}: No such file or directory"]
        folder.path.mkdir()
        (folder.path / "gone.yaml").symlink_to("nowhere")
        assert await folder.looks(3) == ["gone.yaml: No such file or directory"]
        folder.write("here.yaml", PAUSE)
        assert await folder.looks() == []
        assert await folder.version("here") == 1

    with_folder(test)


def test_a_service_follows_the_folder_that_it_is_told() -> None:
    with tempfile.TemporaryDirectory(prefix="rgrid-flows-") as name:
        home, flows = Path(name), Path(name) / "flows"
        home.chmod(0o755)  # Postgres has a user of its own when this one is root
        flows.mkdir()
        (flows / "nap.yaml").write_text(PAUSE)
        (flows / "bad.yaml").write_text("steps: []")
        with service(home, slots=0, workflows=flows) as live:
            shown = live.http.get("/api/v1/workflows/definitions/nap").json()
            assert (shown["version"], shown["created_by"]) == (1, "system")
            (flows / "nap.yaml").write_text(PAUSE.replace("duration_seconds: 1", "duration_seconds: 2"))
            give_up = time.monotonic() + 60
            while live.http.get("/api/v1/workflows/definitions/nap").json()["version"] == 1:
                assert time.monotonic() < give_up
                time.sleep(0.1)
        assert f"{flows}/bad.yaml:1: steps: Expected at least 1 items, got 0." in (home / "service.log").read_text()


def test_a_definition_follows_the_scripts_that_it_names(with_folder: Callable[[Test], None]) -> None:
    async def test(folder: Folder) -> None:
        named = "{name: run, type: EXECUTION, timeout_seconds: 9, params: {script: run.py}}"
        folder.write("scripted.yaml", f"name: scripted\nsteps: [{named}]\n")
        assert await folder.looks(1) == ["scripted.yaml:2: There is no file run.py. (bad_file)"]
        folder.write("run.py", "print(1)")
        assert await folder.looks(3) == []
        assert await folder.version("scripted") == 1
        await folder.looks(3)
        assert await folder.version("scripted") == 1
        folder.write("run.py", "print('${HOME} is text in a script')")
        assert await folder.looks(3) == []
        assert await folder.version("scripted") == 2

    with_folder(test)
