"""What one does with definitions: apply, check, look at and draw them."""

import argparse
from collections.abc import Collection
from typing import Any

import msgspec

from rgrid.cli.connection import connect
from rgrid.cli.lists import fetch
from rgrid.cli.output import Console, Failure, moment, plain
from rgrid.cli.workflows.drawing import dot, draw, mermaid
from rgrid.cli.workflows.files import Found, Written, found_in, in_order, read, refused
from rgrid.cli.workflows.runs import RUN_PREFIX, show_run
from rgrid.client.grid import Client
from rgrid.client.problems import Refused
from rgrid.client.workflow_answers import Graph, Workflow, WorkflowRow
from rgrid.client.workflows import definition_path
from rgrid.kernel.converting import convert

WRITTEN_FIELDS = ("name", "domain", "description", "tags", "parameters", "defaults", "steps", "policy")


def apply(args: argparse.Namespace, console: Console) -> int:
    """All files are read before the first is sent, so a mistake in one of them keeps nothing."""
    documents = in_order([document for path in args.files for document in read(path)])
    problems: list[Found] = []
    done = []
    with connect(args, console) as client:
        for written in documents:
            try:
                answer = client.document("PUT", definition_path(written.name), body=written.body)
            except Refused as error:
                problems += _why(client, written, error)
                continue
            done.append(answer)
            if not console.json:
                console.line(f"{answer['name']} is at version {answer['version']}")
    if console.json and not problems:
        console.document(done[0] if len(done) == 1 else {"data": done})
    if problems:
        raise Failure(_counted(problems, "Not applied"), details=[found.told for found in problems], name="invalid")
    return 0


def validate(args: argparse.Namespace, console: Console) -> int:
    documents = [document for path in args.files for document in read(path)]
    errors: list[Found] = []
    warnings: list[Found] = []
    with connect(args, console) as client:
        names = {written.name for written in documents}
        for written in documents:
            wrong, doubtful = _checked(client, written, names)
            errors += wrong
            warnings += doubtful
            if not console.json and not wrong:
                console.line(f"{written.path}: {written.name} is valid")
    if console.json:
        console.document({"valid": not errors, "errors": errors, "warnings": warnings})
        return 1 if errors else 0
    for found in warnings:
        console.note(f"warning: {plain(found.told)}")
    if errors:
        raise Failure(_counted(errors, "Not valid"), details=[found.told for found in errors], name="invalid")
    return 0


def _checked(client: Client, written: Written, beside: Collection[str] = ()) -> tuple[list[Found], list[Found]]:
    """Errors and warnings. That a workflow is not there yet is none when it is among those that would be applied."""
    try:
        result = client.workflows.validate(written.body)
    except Refused as error:
        return refused(written, error), []
    starts = {step.get("name"): step.get("target_name") for step in written.body["steps"]}
    errors = [each for each in result.errors if each.code != "unknown_workflow" or starts[each.step] not in beside]
    return found_in(written, errors), found_in(written, result.warnings)


def _why(client: Client, written: Written, error: Refused) -> list[Found]:
    """What is wrong with a document that wasn't taken."""
    if error.code == "invalid_definition":
        found, _ = _checked(client, written)
        # Whatever made it wrong may be gone by now; the refusal stands.
        return found or refused(written, error)
    return refused(written, error)


def _counted(problems: list[Found], what: str) -> str:
    return f"{what}: {len(problems)} {'problem' if len(problems) == 1 else 'problems'}."


def delete(args: argparse.Namespace, console: Console) -> int:
    done = []
    with connect(args, console) as client:
        for name in args.names:
            done.append(client.workflows.delete(name))
            if not console.json:
                console.line(f"{name} is deleted; its runs stay")
    if console.json:
        console.document(done[0] if len(done) == 1 else {"data": done})
    return 0


def list_workflows(args: argparse.Namespace, console: Console) -> int:
    filters: dict[str, object] = {
        "domain": args.domain,
        "tag": args.tag,
        "is_active": False if args.inactive else None,
    }
    with connect(args, console) as client:
        found = fetch(client, "/workflows/definitions", filters, None if args.all else args.limit)
    if console.json:
        console.document(found.document())
        return 0
    if not found.rows:
        is_filtered = any(value is not None for value in filters.values())
        console.note("Nothing matches." if is_filtered else "No workflows yet.\n  Next: rgrid workflows apply FILE")
        return 0
    console.table(
        ("NAME", "VERSION", "STEPS", "LAST RUN", "STATUS", "DOMAIN", "DESCRIPTION"),
        [
            (
                row.name,
                str(row.version) if row.is_active else f"{row.version} (inactive)",
                str(row.step_count),
                moment(row.last_run_at),
                row.last_run_status or "-",
                row.domain or "-",
                row.description or "",
            )
            for row in convert(found.rows, list[WorkflowRow])
        ],
    )
    if len(found.rows) < found.total:
        console.note(f"{len(found.rows)} of {found.total}; more with --limit N or --all")
    return 0


def show(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        if args.workflow_or_run.startswith(RUN_PREFIX):
            return show_run(args, console, client)
        path = definition_path(args.workflow_or_run)
        document = client.document("GET", path, query={"version": args.version})
        if args.document:
            console.document(_written(document))
            return 0
        if console.json:
            console.document(document)
            return 0
        drawn = _drafted(client, document)
    workflow = convert(document, Workflow)
    console.facts(
        [
            ("Name", workflow.name),
            ("Version", str(workflow.version)),
            ("Active", "yes" if workflow.is_active else "no"),
            ("Description", workflow.description),
            ("Domain", workflow.domain),
            ("Tags", ", ".join(workflow.tags)),
            ("Parameters", ", ".join(_parameter(each) for each in workflow.parameters)),
            ("Policy", ", ".join(f"{name} {value}" for name, value in workflow.policy.items() if value is not None)),
            ("Defined", moment(workflow.updated_at) + (f" by {workflow.created_by}" if workflow.created_by else "")),
            (
                "Last run",
                f"{workflow.last_run_status} {moment(workflow.last_run_at)}" if workflow.last_run_at else None,
            ),
        ]
    )
    console.line()
    draw(console, drawn)
    console.note(f"\n  Next: rgrid workflows trigger {workflow.name}")
    return 0


def _parameter(declared: dict[str, Any]) -> str:
    needed = " (required)" if declared.get("required") else ""
    default = declared.get("default")
    value = "" if default is None else f"={msgspec.json.encode(default).decode()}"
    return f"{declared['name']}: {declared.get('type', 'string')}{value}{needed}"


def graph(args: argparse.Namespace, console: Console) -> int:
    with connect(args, console) as client:
        run = None
        if args.workflow_or_run.startswith(RUN_PREFIX):
            run = client.workflows.run(args.workflow_or_run)
            drawn = client.workflows.graph(args.workflow_or_run)
        else:
            path = definition_path(args.workflow_or_run)
            drawn = _drafted(client, client.document("GET", path, query={"version": args.version}))
    if console.json:
        console.document(drawn)
    elif args.dot or args.mermaid:
        console.line(dot(drawn) if args.dot else mermaid(drawn))
    else:
        draw(console, drawn, run)
    return 0


def _drafted(client: Client, document: dict[str, Any]) -> Graph:
    """The graph of a definition, as the service sees it."""
    result = client.workflows.validate(_written(document))
    if result.graph is None:
        raise Failure(
            f"{document['name']} can't be drawn: {result.errors[0].message}" if result.errors else "It can't be drawn.",
            f"rgrid workflows show {document['name']} --document",
        )
    return msgspec.structs.replace(result.graph, workflow_name=document["name"], workflow_version=document["version"])


def _written(document: dict[str, Any]) -> dict[str, Any]:
    """What was applied: the answer without what the service knows besides. A null says nothing."""
    steps = [{name: value for name, value in step.items() if value is not None} for step in document["steps"]]
    kept = {name: document[name] for name in WRITTEN_FIELDS if document.get(name) not in (None, [], {})}
    return {**kept, "steps": steps}
