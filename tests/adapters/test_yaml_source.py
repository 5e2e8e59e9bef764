"""Documents in YAML and JSON: what they hold, on which line, and what is refused."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rgrid.adapters.yaml_source import NODES_MAX, BadSource, Source, read, read_all

TEXT = """\
# A weekly refresh.
name: sales.weekly
tags: [sales, weekly]
steps:
  - name: load
    type: EXECUTION
    params:
      script_content: |
        print("no: tricks")
        print(1)
      args: ["a",
             "b"]
  - {name: say, type: ALERT}
"""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def test_every_field_has_its_line() -> None:
    source = read(TEXT)
    assert source.data["steps"][0]["params"]["script_content"] == 'print("no: tricks")\nprint(1)\n'
    lines = {"": 2, "name": 2, "tags[1]": 3, "steps[0].type": 6, "steps[0].params.args[1]": 12, "steps[1].type": 13}
    assert {path: source.lines[path] for path in lines} == lines


def test_a_field_that_is_not_there_has_the_line_of_what_should_hold_it() -> None:
    source = read(TEXT)
    assert source.line("steps[0].params.args[7]") == 11
    assert source.line("steps[1].depends_on[0]") == 13
    assert source.line("policy.mode") == 2


def test_json_has_the_lines_of_json() -> None:
    text = '{\n  "name": "w",\n  "tags": ["a",\n    "b{,"],\n  "steps": [{\n    "x.y": {"a": 1}}, []]\n}'
    assert read(text).data == json.loads(text)
    assert read(text).lines == {
        "": 1, "name": 2, "tags": 3, "tags[0]": 3, "tags[1]": 4, "steps": 5, "steps[0]": 5, "steps[0].x.y": 6,
        "steps[0].x.y.a": 6, "steps[1]": 6,
    }  # fmt: skip


@given(JSON)
def test_whatever_json_holds_comes_back(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=2, ensure_ascii=False)):
        assert read(text).data == value


@given(st.dictionaries(st.text("abc", min_size=1), st.lists(st.integers() | st.text("ab {"), max_size=3), min_size=1))
def test_json_and_yaml_name_the_same_fields(value: dict[str, Any]) -> None:
    assert read(json.dumps(value)).lines.keys() == read(yaml.safe_dump(value)).lines.keys()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("12:30", "12:30"), ("2026-01-09", "2026-01-09"),
        ("1_000", "1_000"),
        ("true", True), ("False", False), ("~", None), ("null", None), ("'null'", "null"), ('"1"', "1"), ("0o17", 15),
        ("0x1F", 31), ("017", 17), ("-3", -3), ("1e3", 1000.0), (".5", 0.5), ("1.", 1.0), ("!!str 1", "1"), ("=", "="),
        ("! 1", "1"),         ("!!int '3'", 3), ("[1, a, {b: c}]", [1, "a", {"b": "c"}]), ("1: a", {"1": "a"}),
        (">\n a\n b\n", "a b\n"), ("&x a", "a"), ("[&x {a: 1}, *x]", [{"a": 1}, {"a": 1}]),
    ],
)  # fmt: skip
def test_values_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    found = read(text).data
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: [1,\n", 3, "expected"),
        ("a: 1\nb\n  c: d", 3, "expected ':'"),
        ("a: 1\n\tb: 2", 2, "tab"),
        ("a: 1\nb: 2\na: 3", 3, "twice"),
        ("a: 1\nb: *nobody", 2, "&nobody"),
        ("a: !!python/object/apply:os.system [id]", 1, "Tags"),
        ("a: 1\nb: !secret x", 2, "Tags"),
        ("a: !!int x", 1, "no int"),
        ("x: &x {a: 1}\ny:\n  <<: *x", 3, "Merge"),
        ("{[a]: 1}", 1, "key"),
        ("a: 1\nb: \x00", 2, ""),
        ("---\na: 1\n---\nb: 2", 4, "more than one"),
        ("", None, "no document"),
        (b"a: 1\nb: \xff", 2, "UTF-8"),
        ("[" * 200 + "a" + "]" * 200, 1, "nested"),
        ("a: " + "- " * 200 + "1", 1, ""),
        ('{"a": 1,}x', 1, "expected"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(text: str | bytes, line: int | None, said: str) -> None:
    with pytest.raises(BadSource) as refused:
        read(text)
    assert refused.value.line == line
    assert said in refused.value.message


def test_aliases_cannot_make_a_small_text_large() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 12)]
    with pytest.raises(BadSource, match=str(NODES_MAX)):
        read("\n".join(lines))
    with pytest.raises(BadSource, match="&x"):
        read("&x [*x]")


def test_a_text_may_hold_several_documents() -> None:
    assert [one.data for one in read_all("a: 1\n---\nb: 2\n---\n")] == [{"a": 1}, {"b": 2}]
    assert [one.line("b") for one in read_all("a: 1\n---\nb: 2")] == [1, 3]
    assert read_all("# nothing") == []


@given(st.text() | st.text("[]{}:,-&*!|>'\"%@`#~\n\t ab1"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert all(isinstance(one, Source) for one in read_all(text))
    except BadSource as refused:
        assert refused.message
