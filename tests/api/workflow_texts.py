"""Definitions of workflows as users write them, for the tests."""

from typing import Any

YAML = """\
# Yesterday's rain, and who should know.
domain: weather
tags: [daily]
parameters:
  - name: day
    type: date
    required: true
policy:
  timeout_seconds: 3600
steps:
  - name: load
    type: execution
    params:
      script_content: |
        import sys
        print(sys.argv[1])
      args: ["${params.day}"]
  - name: wet
    type: CHOICE
    condition: steps.load.output.stdout_json.mm > 0
    then_step: dry off
  - name: dry off
    type: WAIT
    duration_seconds: 1
"""


def definition(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One that is valid unless its steps are not."""
    return {"steps": list(steps) or [wait("pause")], "policy": {"timeout_seconds": 60}, **more}


def wait(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "WAIT", "duration_seconds": 1, **more}


def script(name: str, content: str = "print(1)", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "EXECUTION", "params": {"script_content": content}, **more}
