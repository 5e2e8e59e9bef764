"""A folder per test for services that are broken on purpose, and their last words when a test fails."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from end_to_end import grid
from end_to_end.grid import Program, Service, temporary_folder

Starter = Callable[..., Service]


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_folder() as path:
        yield path


@pytest.fixture
def stopping() -> Iterator[list[Program]]:
    """Programs put in here are stopped after the test, the last one first."""
    programs: list[Program] = []
    yield programs
    stop_all(programs)


@pytest.fixture
def start_service(folder: Path, stopping: list[Program]) -> Starter:
    """Starts a service with these settings in the test's folder."""

    def start(name: str = "service", **settings: Any) -> Service:
        service = Service(folder, name, **settings)
        stopping.append(service)
        service.start()
        return service

    return start


def stop_all(programs: list[Program]) -> None:
    for program in reversed(programs):
        program.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: Any = yield
    if report.failed and call.when == "call":
        for program in grid.running:
            report.sections.append((f"the end of {program.name}.log", program.tail()))
    return report  # type: ignore[return-value]
