"""The OpenAPI 3.1 document, made from the same declarations that serve the requests."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from rgrid.web.operation import MEDIA_TYPES, Operation, Streamed, query_kinds
from rgrid.web.problems import MEDIA_TYPE as PROBLEM_TYPE
from rgrid.web.problems import Problem
from rgrid.web.times import mark_times

Json = dict[str, Any]
_REF: Final = "#/components/schemas/{name}"

_REQUEST_HEADERS: Final[Mapping[str, Json]] = {
    "Idempotency-Key": {
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        "description": "Makes a retry safe: the first 2xx is kept and replayed for equal requests.",
    },
    "If-Match": {
        "schema": {"type": "string"},
        "description": "An ETag, or *: the change happens only to this version, else 412.",
    },
    "If-None-Match": {
        "schema": {"type": "string"},
        "description": "An ETag: 304 when the resource is still at it. On PUT, *: create only.",
    },
    "Rgrid-Min-Position": {
        "schema": {"type": "integer", "minimum": 0},
        "description": "Answer only from a state that includes this event-log position.",
    },
    "X-Request-ID": {
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
        "description": "The caller's own id of the request; otherwise one is made.",
    },
}
_RESPONSE_HEADERS: Final[Mapping[str, Json]] = {
    "ETag": {"schema": {"type": "string"}, "description": "The quoted version of the resource."},
    "Rgrid-Position": {
        "schema": {"type": "integer"},
        "description": "Log position of the last event written here; absent when nothing was written.",
    },
    "Rgrid-As-Of-Position": {
        "schema": {"type": "integer"},
        "description": "Log position that an as_of answer was built from.",
    },
    "Idempotency-Replayed": {
        "schema": {"type": "string", "const": "true"},
        "description": "The response is a stored one.",
    },
    "Location": {"schema": {"type": "string"}, "description": "Path of the resource."},
    "Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds to wait."},
    "WWW-Authenticate": {"schema": {"type": "string"}, "description": "How to authenticate."},
    "X-Request-ID": {"schema": {"type": "string"}, "description": "The id of the request, also in the log."},
    "RateLimit-Limit": {"schema": {"type": "integer"}, "description": "Requests at once."},
    "RateLimit-Remaining": {"schema": {"type": "integer"}, "description": "Requests left now."},
    "RateLimit-Reset": {"schema": {"type": "integer"}, "description": "Seconds until all are back."},
}


def document(operations: Sequence[Operation], version: str) -> Json:
    """The whole document."""
    shown = [operation for operation in operations if not operation.hidden]
    kinds = _kinds(shown)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    for kind, schema in zip(kinds, schemas, strict=True):
        mark_times(kind, schema, components)
    schema_of = dict(zip(kinds, schemas, strict=True))
    paths: Json = {}
    for operation in shown:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "rgrid",
            "version": version,
            "description": "A self-hosted grid for scripts. Times are RFC 3339 in UTC; errors are problem documents.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(tag for one in shown for tag in one.tags)],
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": dict(_RESPONSE_HEADERS),
            "responses": {"Problem": _problem(schema_of)},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, JWT or lease token."},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _kinds(operations: Sequence[Operation]) -> list[Any]:
    kinds: dict[Any, Any] = {Problem: Problem}
    for operation in operations:
        wanted = [kind for kind in operation.ok.values() if not isinstance(kind, str) and kind is not None]
        if operation.body not in (None, Streamed):
            wanted.append(operation.body)
        kinds.update((kind, kind) for kind in wanted)
    return list(kinds.values())


def _operation(operation: Operation, schema_of: Mapping[Any, Json]) -> Json:
    out: Json = {
        "operationId": _operation_id(operation),
        "summary": operation.summary or operation.name,
        "parameters": _parameters(operation),
        "responses": _responses(operation, schema_of),
    }
    if operation.description:
        out["description"] = operation.description
    if operation.tags:
        out["tags"] = list(operation.tags)
    if operation.auth == "open":
        out["security"] = []
    else:
        out["security"] = [{"bearer": []}, {"apiKey": []}]
        out["x-scope"] = operation.auth
    if operation.body is Streamed:
        out["requestBody"] = {
            "required": not operation.body_optional,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    elif operation.body is not None:
        out["requestBody"] = {
            "required": not operation.body_optional,
            "content": {
                media: {"schema": schema_of[operation.body]} for media in ("application/json", *operation.body_formats)
            },
        }
    return out


def _operation_id(operation: Operation) -> str:
    words = re.findall(r"[A-Za-z0-9]+", operation.path.removeprefix("/api/v1"))
    return "_".join([operation.method.lower(), *words]) or operation.method.lower()


def _parameters(operation: Operation) -> list[Json]:
    out: list[Json] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in operation.path_names
    ]
    for kind in query_kinds(operation):
        out += _query_parameters(kind)
    names = {"page": "Rgrid-Min-Position", "etag": "If-None-Match", "idem": "Idempotency-Key", "if_match": "If-Match"}
    wanted = [name for flag, name in names.items() if flag in operation.flags]
    if operation.method != "GET" and "If-None-Match" in wanted:
        wanted.remove("If-None-Match")
    if operation.waits_for_position and "Rgrid-Min-Position" not in wanted:
        wanted.append("Rgrid-Min-Position")
    if operation.method == "PUT" and "if_match" in operation.flags:
        wanted.append("If-None-Match")
    out += [{"name": name, "in": "header", "required": False, **_REQUEST_HEADERS[name]} for name in wanted]
    return out


def _query_parameters(kind: type[msgspec.Struct]) -> list[Json]:
    (_,), components = msgspec.json.schema_components([kind], ref_template="{name}")
    schema = components[kind.__name__]
    mark_times(kind, schema, components)
    required = set(schema.get("required", ()))
    out: list[Json] = []
    for name, raw in schema["properties"].items():
        field = _without_null(_resolved(raw, components))
        parameter: Json = {"name": name, "in": "query", "required": name in required, "schema": field}
        if "description" in field:
            parameter["description"] = field.pop("description")
        if field.get("type") == "object":
            parameter |= {"style": "deepObject", "explode": True}
        out.append(parameter)
    return out


def _resolved(schema: Json, components: Mapping[str, Json]) -> Json:
    """A parameter's schema with what it refers to (enums) in place."""
    if "$ref" in schema:
        own = {name: value for name, value in schema.items() if name != "$ref"}
        return _resolved(dict(components[schema["$ref"]]), components) | own
    if "anyOf" in schema:
        return schema | {"anyOf": [_resolved(option, components) for option in schema["anyOf"]]}
    return dict(schema)


def _without_null(schema: Json) -> Json:
    """A parameter that is left out is null; no text stands for it."""
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    out = {name: value for name, value in schema.items() if name != "anyOf"}
    if len(options) == 1:
        out = options[0] | out
    elif options:
        out["anyOf"] = options
    if isinstance(out.get("enum"), list):
        out["enum"] = [value for value in out["enum"] if value is not None]
    if "default" in out and out["default"] is None:
        del out["default"]
    return out


def _responses(operation: Operation, schema_of: Mapping[Any, Json]) -> Json:
    out: Json = {}
    headers = ["X-Request-ID"]
    if operation.auth != "open":
        headers += ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"]
    for status, kind in operation.ok.items():
        named = [*headers, *_success_headers(operation, status)]
        answer: Json = {
            "description": HTTPStatus(status).phrase,
            "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in named},
        }
        if isinstance(kind, str):
            media = MEDIA_TYPES[kind].split(";")[0]
            schema: Json = {"type": "string"} | ({"format": "binary"} if kind == "binary" else {})
            answer["content"] = {media: {"schema": schema}}
        elif kind is not None:
            answer["content"] = {"application/json": {"schema": schema_of[kind]}}
        out[str(status)] = answer
    if "etag" in operation.flags and operation.method == "GET":
        out["304"] = {"description": "Not Modified"}
    for status in operation.error_statuses:
        out[str(status)] = {
            **_problem(schema_of),
            "description": HTTPStatus(status).phrase,
            "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in _error_headers(status)},
        }
    return out


def _success_headers(operation: Operation, status: int) -> list[str]:
    names = {"etag": "ETag", "mutates": "Rgrid-Position", "as_of": "Rgrid-As-Of-Position"}
    out = [name for flag, name in names.items() if flag in operation.flags]
    if "idem" in operation.flags:
        out.append("Idempotency-Replayed")
    if status in (201, 202):
        out.append("Location")
    return out


def _error_headers(status: int) -> list[str]:
    return ["X-Request-ID", *{401: ["WWW-Authenticate"], 429: ["Retry-After"], 503: ["Retry-After"]}.get(status, [])]


def _problem(schema_of: Mapping[Any, Json]) -> Json:
    return {"description": "A problem.", "content": {PROBLEM_TYPE: {"schema": schema_of[Problem]}}}
