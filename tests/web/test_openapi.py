"""The interface document says what is served: nothing more, nothing less."""

import asyncio
import re
from datetime import datetime
from importlib.resources import files
from typing import Any

import msgspec
from notes import OPERATIONS
from serving import client, site

from rgrid.web.docs import own_operations
from rgrid.web.openapi import document
from rgrid.web.times import mark_times

ALL = [*OPERATIONS, *own_operations(OPERATIONS, site())]
DOC: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document(ALL, "1.2.3")))


def operation(method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = DOC["paths"][path][method]
    return found


def parameters(method: str, path: str, where: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in operation(method, path)["parameters"] if each["in"] == where}


def test_every_operation_that_is_shown_is_in_the_document() -> None:
    shown = {(each.path, each.method.lower()) for each in ALL if not each.hidden}
    assert {(path, method) for path, item in DOC["paths"].items() for method in item} == shown
    ids = [each["operationId"] for item in DOC["paths"].values() for each in item.values()]
    assert len(set(ids)) == len(ids)


def test_every_reference_leads_somewhere() -> None:
    for reference in set(re.findall(r'"\$ref":"#/([^"]+)"', msgspec.json.encode(DOC).decode())):
        node: Any = DOC
        for part in reference.split("/"):
            node = node[part]


def test_a_list_shows_its_parameters_with_bounds_defaults_and_enums() -> None:
    query = parameters("get", "/api/v1/notes", "query")
    assert list(query) == [
        "colour", "pinned", "since", "until", "metadata", "weight", "attempt",
        "offset", "limit", "cursor", "sort", "order", "as_of",
    ]  # fmt: skip
    assert query["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20}
    assert query["offset"]["schema"] == {"type": "integer", "minimum": 0, "default": 0}
    assert query["sort"]["schema"] == {"enum": ["created_at", "title"], "default": "created_at"}
    assert query["colour"]["schema"] == {"enum": ["blue", "red"]}
    assert query["since"]["schema"] == {"type": "string", "format": "date-time"}
    assert query["metadata"]["style"] == "deepObject"
    assert not any(each["required"] for each in query.values())
    assert set(parameters("get", "/api/v1/notes", "header")) == {"Rgrid-Min-Position"}


class Leaf(msgspec.Struct):
    at: datetime
    name: str | None = None


class Tree(msgspec.Struct):
    seen: list[datetime]
    by_name: dict[str, datetime | None]
    leaves: list[Leaf | str]
    below: "Tree | None" = None


def test_every_time_is_marked_as_one() -> None:
    (schema,), components = msgspec.json.schema_components([Tree], ref_template="#/x/{name}")
    mark_times(Tree, schema, components)
    time = {"type": "string", "format": "date-time"}
    assert components["Leaf"]["properties"]["at"] == time
    assert components["Leaf"]["properties"]["name"]["anyOf"] == [{"type": "string"}, {"type": "null"}]
    assert components["Tree"]["properties"]["seen"]["items"] == time
    assert time in components["Tree"]["properties"]["by_name"]["additionalProperties"]["anyOf"]


def test_headers_bodies_and_success_are_shown() -> None:
    create = operation("post", "/api/v1/notes")
    assert "Idempotency-Key" in parameters("post", "/api/v1/notes", "header")
    assert create["requestBody"]["required"]
    assert set(create["responses"]["201"]["headers"]) >= {
        "Rgrid-Position",
        "Idempotency-Replayed",
        "Location",
        "X-Request-ID",
    }
    one = operation("get", "/api/v1/notes/{note_id}")
    assert "ETag" in one["responses"]["200"]["headers"]
    assert "304" in one["responses"]
    assert parameters("get", "/api/v1/notes/{note_id}", "path")["note_id"]["required"]


def test_implied_errors_are_shown_as_problems() -> None:
    create = operation("post", "/api/v1/notes")["responses"]
    assert {status for status in create if status >= "400"} == {
        "400",
        "401",
        "403",
        "409",
        "413",
        "415",
        "422",
        "429",
        "500",
        "503",
    }
    for item in DOC["paths"].values():
        for each in item.values():
            for status, response in each["responses"].items():
                if status >= "400":
                    schema = response["content"]["application/problem+json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Problem"}


def test_open_operations_ask_for_no_credentials_and_others_name_their_scope() -> None:
    assert operation("get", "/api/v1/health")["security"] == []
    create = operation("post", "/api/v1/notes")
    assert create["security"] == [{"bearer": []}, {"apiKey": []}]
    assert create["x-scope"] == "run"


def test_the_document_and_its_page_are_served_and_need_nothing_from_elsewhere() -> None:
    async def scenario() -> None:
        async with client(*OPERATIONS) as http:
            served = await http.get("/schema/openapi.json")
            assert served.headers["content-type"] == "application/json"
            assert served.json()["paths"].keys() == DOC["paths"].keys()
            page = await http.get("/docs")
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            assert "default-src 'none'" in page.headers["content-security-policy"]
            assert page.text == files("rgrid.web").joinpath("docs_page.html").read_text()
            assert not re.search(r"https?://|<script src|<link rel=\"stylesheet|innerHTML", page.text)
            assert (await http.get("/")).json()["openapi"] == "/schema/openapi.json"

    asyncio.run(scenario())
