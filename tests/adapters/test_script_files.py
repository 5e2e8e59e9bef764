"""A document may name the files of its scripts, as long as they lie beside it."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid.adapters.script_files import FILE_BYTES_MAX, inlined
from rgrid.client.flow import Flow
from rgrid.kernel import placeholders


def document(**params: object) -> dict[str, object]:
    return {"name": "w", "steps": [{"name": "a", "type": "execution", "params": params}]}


def test_named_files_become_their_texts(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "a.py").write_text("print('ä')")
    (tmp_path / "needs.txt").write_text("rich")
    named = document(script="scripts/a.py", requirements="needs.txt", args=["x"])
    made, wrong = inlined(named, tmp_path)
    assert wrong == []
    assert made == document(args=["x"], script_content="print('ä')", requirements_content="rich")
    assert named == document(script="scripts/a.py", requirements="needs.txt", args=["x"]), "what was given stays"


@given(st.text(alphabet="${}ax ", max_size=20))
def test_what_looks_like_an_expression_in_a_script_is_none(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.sh").write_text(text)
        made, _ = inlined(document(script="a.sh"), Path(folder))
        flow = Flow("w").execution("a", script=Path(folder) / "a.sh").document()
    content = made["steps"][0]["params"]["script_content"]
    assert placeholders.filled(content, lambda _: "filled") == text
    assert flow["steps"][0]["params"]["script_content"] == content


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("none.py", "There is no file none.py."),
        ("../outside.py", "../outside.py is not below the folder of the document."),
        ("/etc/hostname", "/etc/hostname is not below the folder of the document."),
        ("link.py", "link.py is not below the folder of the document."),
        ("large.py", f"large.py is larger than {FILE_BYTES_MAX} bytes."),
        ("binary.py", "binary.py is not UTF-8 text."),
        ("", "Must be the path of a file beside the document."),
        (7, "Must be the path of a file beside the document."),
    ],
)
def test_a_name_that_leads_nowhere_is_told_with_its_field(named: object, why: str, tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "outside.py").write_text("secret")
    (folder / "link.py").symlink_to(tmp_path / "outside.py")
    (folder / "large.py").write_bytes(b"x" * (FILE_BYTES_MAX + 1))
    (folder / "binary.py").write_bytes(b"\xff\xfe")
    _, wrong = inlined(document(script=named), folder)
    assert wrong == [("steps[0].params.script", why)]


def test_a_script_is_given_once(tmp_path: Path) -> None:
    _, wrong = inlined(document(script="a.py", script_content="print(1)"), tmp_path)
    assert wrong == [("steps[0].params.script", "Give either script or script_content.")]


@pytest.mark.parametrize(
    "other",
    [
        {"name": "w"},
        {"steps": "none"},
        {"steps": ["a", None, {"type": "EXECUTION"}, {"type": "EXECUTION", "params": []}]},
        {"steps": [{"type": "HANDLER", "params": {"script": "a.py"}}]},
        [],
        None,
    ],
)
def test_what_is_something_else_stays_as_it_is(other: object, tmp_path: Path) -> None:
    assert inlined(other, tmp_path) == (other, [])
