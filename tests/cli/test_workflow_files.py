"""Documents are read with their lines and the scripts beside them, and parameters with the types that are declared."""

from pathlib import Path

import pytest

from rgrid.cli.output import Failure, Usage
from rgrid.cli.workflows.files import found_in, in_order, read, refused
from rgrid.cli.workflows.parameters import pairs, typed
from rgrid.client.problems import Problem, ProblemField, Refused
from rgrid.client.workflow_answers import Issue

DOCUMENT = """\
# A comment
name: w
steps:
  - name: a
    type: EXECUTION
    params:
      script: a.py

  - name: b
    type: CHOICE
    then_step: nowhere
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a.py").write_text("print(1)")
    (tmp_path / "w.yaml").write_text(DOCUMENT)
    return tmp_path / "w.yaml"


def test_a_document_holds_the_scripts_beside_it(path: Path) -> None:
    (written,) = read(path)
    assert written.body["steps"][0]["params"] == {"script_content": "print(1)"}


def test_without_a_name_the_file_gives_it(tmp_path: Path) -> None:
    (tmp_path / "nightly.json").write_text('{"steps": []}')
    (written,) = read(tmp_path / "nightly.json")
    assert (written.name, written.body["name"]) == ("nightly", "nightly")


def test_several_documents_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text("name: a\nsteps: []\n---\nname: b\nsteps: []\n")
    assert [written.name for written in read(tmp_path / "two.yaml")] == ["a", "b"]


def test_a_problem_is_told_with_file_line_and_rule(path: Path) -> None:
    (written,) = read(path)
    issues = [
        Issue(code="unknown_step", message="There is no step nowhere.", step="b", field="then_step"),
        Issue(code="field_missing", message="A CHOICE has a condition.", step="b", field="steps[1].condition"),
        Issue(code="no_timeout", message="It may run for ever.", step="a"),
        Issue(code="unused", message="Never used.", field="parameters[0]"),
    ]
    assert [found.told.replace(str(path), "w.yaml") for found in found_in(written, issues)] == [
        "w.yaml:2: unused: Never used.",
        "w.yaml:4: no_timeout: It may run for ever.",
        "w.yaml:9: field_missing: A CHOICE has a condition.",
        "w.yaml:11: unknown_step: There is no step nowhere.",
    ]


def test_a_refused_form_is_told_with_its_line(path: Path) -> None:
    (written,) = read(path)
    fields = [ProblemField(field="steps[1].then_step", message="Expected a string.")]
    (found,) = refused(written, Refused(Problem(status=422, detail="no", errors=fields)))
    assert found.told == f"{path}:11: bad_form: steps[1].then_step: Expected a string."
    with pytest.raises(Refused):
        refused(written, Refused(Problem(status=403, detail="no")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: w\nsteps: [\n", r"w.yaml:\d: Not valid YAML"),
        ("- a\n", "w.yaml:1: A workflow is a map"),
        ("name: w\nname: v\n", "w.yaml:2: The key name is there twice."),
    ],
)
def test_what_can_not_be_read_is_told_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(text)
    with pytest.raises(Failure, match=said):
        read(tmp_path / "w.yaml")


def test_a_script_that_is_missing_is_told_with_its_line(path: Path) -> None:
    (path.parent / "a.py").unlink()
    with pytest.raises(Failure) as failed:
        read(path)
    assert failed.value.details == [f"{path}:7: bad_file: There is no file a.py."]


def test_a_file_that_is_none_is_a_mistake_of_use(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="There is no file"):
        read(tmp_path / "none.yaml")
    with pytest.raises(Usage, match="is a folder"):
        read(tmp_path)


def test_what_others_start_comes_first(tmp_path: Path) -> None:
    parts = {
        "top": "[{name: m, type: map, target_name: middle}, {name: l, type: WORKFLOW, target_name: leaf}]",
        "middle": "[{name: l, type: WORKFLOW, target_name: leaf}]",
        "self": "[{name: s, type: WORKFLOW, target_name: self}]",
        "leaf": "[]",
    }
    text = "".join(f"---\nname: {name}\nsteps: {steps}\n" for name, steps in parts.items())
    (tmp_path / "all.yaml").write_text(text)
    assert [written.name for written in in_order(read(tmp_path / "all.yaml"))] == ["self", "leaf", "middle", "top"]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("2026-01-09", "date", "2026-01-09"),
        ("7", "string", "7"),
        ("7", "integer", 7),
        ("7", None, 7),
        ("true", "boolean", True),
        ("EU", None, "EU"),
        ("[1, 2]", "array", [1, 2]),
        ("seven", "integer", "seven"),
    ],
)
def test_a_parameter_has_the_type_that_is_declared(text: str, kind: str | None, value: object) -> None:
    assert typed(text, kind) == value


def test_a_dot_goes_deeper() -> None:
    assert pairs([("region.code", "EU"), ("region.size", "3"), ("year", "2026")]) == {
        "region": {"code": "EU", "size": 3},
        "year": 2026,
    }
    for wrong in ([("a", "1"), ("a.b", "2")], [("a..b", "1")]):
        with pytest.raises(Usage):
            pairs(wrong)
