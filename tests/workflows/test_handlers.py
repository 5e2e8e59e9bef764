"""Handlers: functions that installed packages register, with the parameters that their annotations say."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rgrid.workflows.daemon_threads import DaemonThreads
from rgrid.workflows.handlers import BadHandler, HandlerContext, Handlers, StepError, installed, registered

CONTEXT = HandlerContext("run_1", "a", 2, "run_1/a/2")


async def greet(name: str, times: int = 1) -> dict[str, str]:
    """Greets."""
    return {"said": " ".join([f"hello {name}"] * times)}


def plain(of: list[int]) -> dict[str, int]:
    return {"sum": sum(of)}


async def where(context: HandlerContext, **params: Any) -> dict[str, Any]:
    return {"key": context.attempt_key, **params}


class Answer(msgspec.Struct):
    rows: int


async def typed() -> Answer:
    return Answer(3)


async def nothing() -> None:
    pass


async def number() -> int:
    return 1


async def away() -> None:
    raise ConnectionResetError("the other side went away")


async def busy() -> None:
    raise StepError("come back later", "RATE_LIMIT")


def by_position(one: int, /) -> None:
    pass


def named_and_more(one: int, **more: Any) -> None:
    pass


async def _call(handlers: Handlers, name: str, params: dict[str, Any]) -> dict[str, Any]:
    return await handlers.get(name).call(params, CONTEXT, DaemonThreads(1))


async def nul() -> dict[str, str]:
    return {"text": "a\0b"}


async def half_a_character() -> dict[str, str]:
    return {"text": "\ud800"}


async def leave() -> None:
    sys.exit(3)


def leave_from_a_thread() -> None:
    sys.exit(3)


def called(function: Callable[..., Any], **params: Any) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        return await registered("a.b", function).call(params, CONTEXT, DaemonThreads(1))

    return asyncio.run(run())


def test_a_function_is_called_with_the_parameters_of_the_step() -> None:
    assert called(greet, name="ann", times=2) == {"said": "hello ann hello ann"}
    assert called(plain, of=[1, 2]) == {"sum": 3}
    assert called(where, x=1) == {"key": "run_1/a/2", "x": 1}
    assert called(typed) == {"rows": 3}
    assert called(nothing) == {}


@pytest.mark.parametrize(
    ("function", "params", "category", "text"),
    [
        (greet, {}, "CONFIGURATION", "name"),
        (greet, {"name": "ann", "time": 1}, "CONFIGURATION", "time"),
        (greet, {"name": 1}, "CONFIGURATION", "name"),
        (away, {}, "NETWORK", "went away"),
        (busy, {}, "RATE_LIMIT", "come back later"),
        (number, {}, "INTERNAL", "int"),
        (nul, {}, "INTERNAL", "NUL"),
        (leave, {}, "UNKNOWN", "SystemExit"),
        (leave_from_a_thread, {}, "UNKNOWN", "SystemExit"),
        (half_a_character, {}, "UNKNOWN", "surrogates"),
    ],
)
def test_what_goes_wrong_has_a_category(
    function: Callable[..., Any], params: dict[str, Any], category: str, text: str
) -> None:
    with pytest.raises(StepError, match=text) as failed:
        called(function, **params)
    assert failed.value.category == category


def test_the_schema_of_the_parameters_is_that_of_the_annotations() -> None:
    schema = Handlers({"a.greet": greet}).schemas()["a.greet"]
    assert schema["properties"]["name"] == {"type": "string"}
    assert schema["properties"]["times"] == {"type": "integer", "default": 1}
    assert (schema["required"], schema["additionalProperties"]) == (["name"], False)
    assert Handlers({"a.where": where}).schemas() == {"a.where": {"type": "object"}}


@pytest.mark.parametrize("function", [by_position, named_and_more])
def test_a_function_that_no_step_can_call_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(BadHandler):
        Handlers({"a.b": function})
    with pytest.raises(BadHandler):
        Handlers({"a b": greet})


def test_packages_register_handlers_as_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kettle.py").write_text("async def boil(litres: int) -> dict:\n    return {'boiled': litres}\n")
    (tmp_path / "broken_kettle.py").write_text("raise RuntimeError('no water')\n")
    info = tmp_path / "kettle-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kettle\nVersion: 1\n")
    names = "kettle.boil = kettle:boil\nkettle.dry = broken_kettle:boil\n"
    (info / "entry_points.txt").write_text(f"[rgrid.handlers]\n{names}")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    handlers = installed()
    answer = asyncio.run(_call(handlers, "kettle.boil", {"litres": 2}))
    assert answer == {"boiled": 2}
    with pytest.raises(StepError, match="no water"):
        handlers.get("kettle.dry")
    with pytest.raises(StepError, match=r"No installed package registers the handler kettle\.fill"):
        handlers.get("kettle.fill")
    assert "kettle.boil" in handlers.schemas()
