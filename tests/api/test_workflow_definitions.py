"""Workflow definitions over HTTP: versions, preconditions, lists, deletion."""

from itertools import count
from typing import Any

import httpx
import pytest
from api.one_service import Live
from api.workflow_texts import YAML, definition, script, wait

PATH = "/api/v1/workflows/definitions"
_names = count(1)


def fresh() -> str:
    return f"defined.{next(_names):03}"


def put(live: Live, name: str, body: Any, **headers: str) -> httpx.Response:
    return live.http.put(
        f"{PATH}/{name}", json=body, headers={key.replace("_", "-"): one for key, one in headers.items()}
    )


def get(live: Live, name: str, **query: Any) -> dict[str, Any]:
    answer = live.http.get(f"{PATH}/{name}", params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_the_first_version_is_created_and_shown_whole(idle: Live) -> None:
    name = fresh()
    body = definition(
        script("load", retry={"max_attempts": 2, "retry_on": ["NETWORK"]}, quality={"min_records": 1}),
        wait("pause", depends_on=["load"]),
        domain="sales",
        tags=["b", "a", "b"],
        parameters=[{"name": "region", "default": "EU"}],
        defaults={"anything": [1, {"x": None}]},
    )
    answer = put(idle, name, body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{PATH}/{name}"
    made = answer.json()
    assert (made["id"], made["name"], made["version"], made["status"]) == (name, name, 1, "created")
    assert [one["code"] for one in made["warnings"]] == ["unused_parameter"]
    shown = get(idle, name)
    assert (shown["name"], shown["version"], shown["step_count"], shown["is_active"]) == (name, 1, 2, True)
    assert (shown["tags"], shown["domain"], shown["defaults"]) == (["b", "a", "b"], "sales", body["defaults"])
    assert shown["steps"][0]["retry"]["initial_seconds"] == 1
    assert shown["steps"][0]["retry"]["retry_on"] == ["NETWORK"]
    assert shown["steps"][0]["quality"]["hard"] is True
    assert shown["steps"][1]["depends_on"] == ["load"]
    assert shown["policy"] == {"mode": "SEQUENTIAL", "max_concurrency": 4, "on_failure": "STOP", "timeout_seconds": 60}
    assert (shown["last_run_at"], shown["last_run_status"]) == (None, None)
    assert shown["created_at"] == shown["updated_at"]


def test_a_version_changes_only_when_something_differs_and_never_afterwards(idle: Live) -> None:
    name = fresh()
    first, second = definition(wait("a")), definition(wait("a"), wait("b"))
    assert put(idle, name, first).json()["version"] == 1
    again = put(idle, name, {**first, "name": name})
    assert (again.status_code, again.json()["version"], again.json()["status"]) == (200, 1, "unchanged")
    assert "rgrid-position" not in again.headers
    changed = put(idle, name, second)
    assert (changed.status_code, changed.json()["version"], changed.json()["status"]) == (200, 2, "updated")
    assert int(changed.headers["rgrid-position"]) > 0
    assert put(idle, name, first).json()["version"] == 3
    assert [get(idle, name, version=number)["step_count"] for number in (1, 2, 3)] == [1, 2, 1]
    assert get(idle, name)["version"] == 3
    assert idle.http.get(f"{PATH}/{name}", params={"version": 4}).status_code == 404
    assert idle.http.get(f"{PATH}/{name}", params={"version": 0}).status_code == 422


def test_a_definition_is_switched_off_and_on_without_a_new_version(idle: Live) -> None:
    name, body = fresh(), definition()
    put(idle, name, body)
    answer = put(idle, name, {**body, "is_active": False})
    assert (answer.json()["status"], answer.json()["version"]) == ("updated", 1)
    assert get(idle, name)["is_active"] is False
    put(idle, name, body)
    assert get(idle, name)["is_active"] is True


def test_a_version_that_somebody_else_changed_is_not_overwritten(idle: Live) -> None:
    name = fresh()
    assert put(idle, name, definition(), If_Match='"1"').status_code == 412
    assert put(idle, name, definition(), If_Match="*").status_code == 412
    tag = put(idle, name, definition()).headers["etag"]
    assert idle.http.get(f"{PATH}/{name}", headers={"If-None-Match": tag}).status_code == 304
    assert put(idle, name, definition(wait("b")), If_None_Match="*").status_code == 412
    assert put(idle, name, definition(wait("b")), If_Match=tag).status_code == 200
    refused = put(idle, name, definition(wait("c")), If_Match=tag)
    assert (refused.status_code, refused.json()["code"]) == (412, "version_mismatch")
    assert idle.http.delete(f"{PATH}/{name}", headers={"If-Match": tag}).status_code == 412
    assert get(idle, name)["steps"][0]["name"] == "b"
    assert put(idle, fresh(), definition(), If_None_Match="*").status_code == 201


def test_a_deleted_definition_leaves_its_versions_and_frees_its_name(idle: Live) -> None:
    name = fresh()
    put(idle, name, definition(wait("old"), domain="deleted"))
    gone = idle.http.delete(f"{PATH}/{name}")
    assert (gone.status_code, gone.json()["status"]) == (200, "deleted")
    assert idle.http.delete(f"{PATH}/{name}").status_code == 404
    assert idle.http.get(f"{PATH}/{name}").status_code == 404
    assert get(idle, name, version=1)["steps"][0]["name"] == "old"
    assert _names_of(idle, gone, domain="deleted") == []
    again = put(idle, name, definition(wait("old"), domain="deleted"), If_None_Match="*")
    assert (again.status_code, again.json()["version"]) == (201, 2)
    assert _names_of(idle, again, domain="deleted") == [name]
    idle.http.delete(f"{PATH}/{name}")


def test_what_others_name_cannot_be_deleted(idle: Live) -> None:
    child, parent = fresh(), fresh()
    put(idle, child, definition())
    put(idle, parent, definition({"name": "run", "type": "workflow", "target_name": child}))
    refused = idle.http.delete(f"{PATH}/{child}")
    assert (refused.status_code, refused.json()["code"]) == (409, "in_use")
    assert refused.json()["used_by"] == [f"workflow {parent}"]
    assert idle.http.delete(f"{PATH}/{parent}").status_code == 200
    assert idle.http.delete(f"{PATH}/{child}").status_code == 200


def test_definitions_are_listed_by_filter_and_in_order(idle: Live) -> None:
    mine = [fresh() for _ in range(3)]
    for index, name in enumerate(mine):
        body = definition(domain="listed", tags=[f"t{index % 2}", "all"], is_active=index != 2)
        last = put(idle, name, body)
    assert _names_of(idle, last, domain="listed") == sorted(mine)
    assert _names_of(idle, last, domain="listed", order="desc") == sorted(mine, reverse=True)
    assert _names_of(idle, last, domain="listed", sort="created_at") == mine
    assert _names_of(idle, last, domain="listed", tag="t0") == [mine[0], mine[2]]
    assert _names_of(idle, last, domain="listed", is_active="false") == [mine[2]]
    assert _names_of(idle, last, domain="listed", is_active="1", tag="t1") == [mine[1]]
    first = idle.page(PATH, domain="listed", limit=2)
    assert (first["pagination"]["total"], first["pagination"]["has_more"]) == (3, True)
    rest = idle.page(PATH, domain="listed", limit=2, cursor=first["pagination"]["next_cursor"])
    assert [row["name"] for row in first["data"] + rest["data"]] == sorted(mine)
    assert set(first["data"][0]) < set(get(idle, mine[0]))
    for query in ({"sort": "version"}, {"is_active": "maybe"}, {"domains": "x"}):
        assert idle.http.get(PATH, params=query).status_code == 422


def test_a_list_holds_what_was_just_acknowledged(idle: Live) -> None:
    for total in range(1, 11):
        put(idle, fresh(), definition(domain="just_made"))
        assert idle.page(PATH, domain="just_made", limit=1)["pagination"]["total"] == total


@pytest.mark.parametrize(
    ("name", "code"),
    [("runs", "reserved_name"), ("trigger", "reserved_name"), ("definitions", "reserved_name"),
     ("validate", "reserved_name"), ("-a", "invalid_name"), ("a b", "invalid_name"), ("a" * 201, "invalid_name")],
)  # fmt: skip
def test_names_that_cannot_be_used_are_refused(idle: Live, name: str, code: str) -> None:
    answer = put(idle, name, definition())
    if name == "validate":
        assert answer.status_code == 405
    else:
        assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert answer.json()["code"] in (code, "method_not_allowed")


def test_the_name_inside_must_be_the_name_outside(idle: Live) -> None:
    answer = put(idle, fresh(), {**definition(), "name": "another"})
    assert (answer.status_code, answer.json()["code"]) == (400, "name_mismatch")
    assert answer.json()["errors"][0]["field"] == "name"


def test_who_may_only_read_cannot_define(idle: Live) -> None:
    reader, name = idle.key("read"), fresh()
    assert idle.call("PUT", f"{PATH}/{name}", reader, json=definition()).status_code == 403
    assert idle.call("DELETE", f"{PATH}/{name}", reader).status_code == 403
    assert idle.call("POST", f"{PATH}/validate", reader, json=definition()).status_code == 200
    assert idle.call("GET", PATH, reader).status_code == 200
    assert idle.call("GET", PATH, None).status_code == 401


def test_yaml_says_the_same_as_json(idle: Live) -> None:
    name = fresh()
    answer = idle.http.put(f"{PATH}/{name}", content=YAML, headers={"content-type": "application/yaml; charset=utf-8"})
    assert answer.status_code == 201, answer.text
    shown = get(idle, name)
    assert [step["type"] for step in shown["steps"]] == ["EXECUTION", "CHOICE", "WAIT"]
    assert shown["steps"][0]["params"]["script_content"] == "import sys\nprint(sys.argv[1])\n"
    given = {"domain", "tags", "parameters", "policy", "steps", "defaults"}
    assert put(idle, name, {key: shown[key] for key in given}).json()["status"] == "unchanged"


def _names_of(live: Live, after: httpx.Response, **query: Any) -> list[str]:
    headers = {"Rgrid-Min-Position": after.headers["rgrid-position"]}
    answer = live.http.get(PATH, params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    return [row["name"] for row in answer.json()["data"]]
