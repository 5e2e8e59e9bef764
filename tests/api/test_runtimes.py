"""Runtimes: one table of names and aliases for the list, for create and for filters."""

from typing import Any

import pytest
from api.one_service import Live, problem
from neighbours import needs

PATH = "/api/v1/runtimes"


@pytest.fixture(scope="module")
def runtimes(live: Live) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = live.page(PATH, limit=1000)["data"]
    return rows


def test_there_is_one_default_and_it_is_what_create_takes(live: Live, runtimes: list[dict[str, Any]]) -> None:
    (default,) = [one for one in runtimes if one["default"]]
    assert (default["name"], default["language"], default["version"]) == ("python:3.11", "python", "3.11")
    assert {"python", "python3.11"} <= set(default["aliases"])
    assert live.submit("print(1)")["runtime"] == "python:3.11"


def test_no_alias_means_two_runtimes(runtimes: list[dict[str, Any]]) -> None:
    names = [name for one in runtimes for name in (one["name"], *one["aliases"])]
    assert len(names) == len(set(names))
    assert {"node20", "node:20"} <= set(names)


def test_every_name_of_an_available_runtime_runs_under_its_canonical_one(
    live: Live, runtimes: list[dict[str, Any]]
) -> None:
    scripts = {"python": "import sys; print(sys.version_info[1])", "node": "console.log(1)", "bash": "echo 1"}
    for one in runtimes:
        if one["available"]:
            for name in (one["name"], *one["aliases"], one["name"].upper()):
                assert live.submit(scripts[one["language"]], runtime=name)["runtime"] == one["name"]
    if any(one["name"] == "python:3.12" and one["available"] for one in runtimes):
        assert live.run(scripts["python"], runtime="python3.12")["stdout"] == "12\n"


def test_a_runtime_that_no_worker_has_is_listed_and_refused(live: Live, runtimes: list[dict[str, Any]]) -> None:
    missing = [one for one in runtimes if not one["available"]]
    for one in missing:
        assert one["description"]
        problem(live.create(script_content="1", runtime=one["name"]), 422, "unknown_runtime")


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "cobol",
        "python:2.7",
        "python:3",
        "python3.11.4",
        "/usr/bin/python3",
        "../python",
        "pythön",
        "x" * 10_000,
    ],
)
def test_any_other_name_is_unknown_and_the_answer_says_what_there_is(live: Live, name: str) -> None:
    answer = live.create(script_content="1", runtime=name)
    body = problem(answer, 422, "unknown_runtime")
    assert body["errors"][0]["field"] == "runtime"
    assert "python:3.11" in body["errors"][0]["message"]
    assert len(answer.content) < 12_000


def test_node_runs_node_and_python_runs_python(live: Live, runtimes: list[dict[str, Any]]) -> None:
    needs("node", "nodejs")
    assert any(one["language"] == "node" and one["available"] for one in runtimes)
    ended = live.run("console.log(process.argv.slice(2).join('+'), typeof require)", runtime="node", args=["a", "b"])
    assert ended["stdout"] == "a+b function\n"
    assert live.run("console.log(1)", runtime="python")["status"] == "failed"


def test_the_list_pages_like_every_other(live: Live, runtimes: list[dict[str, Any]]) -> None:
    first = live.page(PATH, limit=2)
    second = live.page(PATH, limit=2, cursor=first["pagination"]["next_cursor"])
    assert first["data"] + second["data"] == runtimes[:4]
    assert first["pagination"]["total"] == len(runtimes)
    problem(live.http.get(f"{PATH}?sort=name"), 422, "unknown_parameter")
    assert live.call("GET", PATH, live.key("read")).status_code == 200
