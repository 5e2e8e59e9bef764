"""The JSON Schema of workflow definitions, for editors: what the interface takes, and what steps of a type need."""

from typing import Any, Final

import msgspec

from rgrid.api.workflow_documents import StepTypeWritten, WorkflowDefinitionInput
from rgrid.web.operation import Call, NoQuery, Operation, Reply
from rgrid.workflows.document import ALIASES
from rgrid.workflows.step_rules import REQUIRED

PATH: Final = "/schema/workflow.json"


def schema() -> dict[str, Any]:
    """Self-contained."""
    parts: dict[str, Any]
    (_,), parts = msgspec.json.schema_components([WorkflowDefinitionInput], ref_template="#/$defs/{name}")
    whole: dict[str, Any] = parts.pop("WorkflowDefinitionInput")
    step, types = parts["StepInput"], parts[StepTypeWritten.__name__]
    # Case doesn't matter, which a schema can only say by listing what people write; what editors offer comes first.
    canonical = list(StepTypeWritten.__members__)
    others = [*(name.lower() for name in canonical), *ALIASES, *(name.lower() for name in ALIASES)]
    types["anyOf"] = [{"enum": canonical}, {"enum": others}]
    del types["enum"]
    step["allOf"] = [
        {
            "if": {"properties": {"type": {"enum": _spellings(kind)}}, "required": ["type"]},
            "then": {"required": list(fields)},
        }
        for kind, fields in REQUIRED.items()
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **whole,
        "title": "rgrid workflow",
        "$defs": dict(sorted(parts.items())),
    }


def _spellings(kind: str) -> list[str]:
    names = [kind, *(alias for alias, meant in ALIASES.items() if meant == kind)]
    return [*names, *(name.lower() for name in names)]


def published() -> bytes:
    """As it is served, and as it lies beside the documentation."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2) + b"\n"


def operations() -> list[Operation]:
    body = published()

    async def answer(_call: Call[NoQuery, None]) -> Reply:
        return Reply(200, body, media_type="application/schema+json")

    return [Operation(method="GET", path=PATH, auth="open", handler=answer, ok={200: "text"}, hidden=True)]
