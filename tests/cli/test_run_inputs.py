"""Which arguments of a script are files, and what they are called over there."""

from pathlib import Path

import pytest

from rgrid.cli.inputs import map_arguments, read_script, runtime_for
from rgrid.cli.output import Usage
from rgrid.client.answers import Runtime


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("a.csv", "data/a.csv", "data/b.csv", "fast"):
        (tmp_path / name).write_text("x\n")
    return tmp_path


def test_files_keep_their_relative_path_and_the_rest_stays_as_it_is() -> None:
    mapped = map_arguments(["--top", "10", "data/b.csv", "-v", "word"], allow_missing=False)
    assert mapped.args == ["--top", "10", "data/b.csv", "-v", "word"]
    assert mapped.files == {"data/b.csv": Path("data/b.csv")}


def test_a_file_from_outside_is_known_by_its_last_name(folder: Path) -> None:
    mapped = map_arguments([str(folder / "data" / "b.csv"), "../" + folder.name + "/fast"], allow_missing=False)
    assert mapped.args == ["b.csv", "fast"]


def test_two_files_of_the_same_name_get_two_names(folder: Path) -> None:
    mapped = map_arguments(["a.csv", str(folder / "data" / "a.csv")], allow_missing=False)
    assert mapped.args == ["a.csv", "a_1.csv"]
    assert mapped.files["a_1.csv"] == folder / "data" / "a.csv"


def test_one_file_named_twice_is_sent_once(folder: Path) -> None:
    mapped = map_arguments(["a.csv", str(folder / "a.csv")], allow_missing=False)
    assert mapped.args == ["a.csv", "a.csv"]
    assert len(mapped.files) == 1


def test_a_file_behind_an_option_goes_along(folder: Path) -> None:
    mapped = map_arguments([f"--input={folder}/data/b.csv", "--mode=fast"], allow_missing=False)
    assert mapped.args == ["--input=b.csv", "--mode=fast"]
    assert list(mapped.files) == ["b.csv"]


@pytest.mark.parametrize("word", ["missing.csv", "./x", "../y", "data/none", "/no/such/file", "--in=missing.csv"])
def test_what_looks_like_a_file_and_is_none_stops_everything(word: str) -> None:
    if word.startswith("--"):
        assert map_arguments([word], allow_missing=True).args == [word]
    with pytest.raises(Usage, match="Nothing was sent"):
        map_arguments(["a.csv", word], allow_missing=False)


@pytest.mark.parametrize(
    "word",
    ["10", "v1.2", "3.14", "example.com", "https://x.org/a.csv", "America/New_York", "a b.csv x", "", "-", "--x"],
)
def test_plain_words_are_no_files(word: str) -> None:
    assert map_arguments([word], allow_missing=False) == ([word], {})


def test_a_folder_is_not_sent() -> None:
    with pytest.raises(Usage, match="is a folder"):
        map_arguments(["./data"], allow_missing=False)
    assert map_arguments(["data"], allow_missing=False) == (["data"], {})


def runtime(name: str, language: str, *aliases: str, default: bool = False, available: bool = True) -> Runtime:
    return Runtime(
        name=name, aliases=list(aliases), language=language, version="1", default=default, available=available
    )


TABLE = [
    runtime("python:3.12", "python", "python3.12"),
    runtime("python:3.11", "python", "python", "python3", "python3.11", default=True),
    runtime("node:20", "node", "node", "nodejs"),
    runtime("bash", "bash", "sh"),
]


@pytest.mark.parametrize(
    ("name", "script", "expected"),
    [
        ("a.py", "print(1)", "python:3.11"),
        ("a.py", "#!/usr/bin/env python3.12\nprint(1)", "python:3.12"),
        ("a.py", "#!/usr/bin/env -S python3 -u\n", "python:3.11"),
        ("a.py", "#!/usr/bin/python3.99\n", "python:3.11"),
        ("a.js", "", "node:20"),
        ("a", "#!/usr/bin/env node\n", "node:20"),
        ("a.sh", "echo", "bash"),
        ("a", "#!/bin/sh -e\n", "bash"),
    ],
)
def test_the_first_line_or_the_ending_chooses_the_runtime(name: str, script: str, expected: str) -> None:
    assert runtime_for(Path(name), script, TABLE) == expected


def test_a_script_that_says_nothing_needs_to_be_told() -> None:
    with pytest.raises(Usage, match="--runtime"):
        runtime_for(Path("job"), "print(1)", TABLE)


def test_a_language_that_no_worker_has_is_said_before_anything_is_sent() -> None:
    with pytest.raises(Usage, match="no worker"):
        runtime_for(Path("a.js"), "", [runtime("node:20", "node", "node", available=False)])


@pytest.mark.parametrize(("content", "said"), [(b"", "empty"), (b"\xff\xfe", "UTF-8"), (b"a\0b", "not text")])
def test_what_is_no_script_is_refused(folder: Path, content: bytes, said: str) -> None:
    (folder / "s.py").write_bytes(content)
    with pytest.raises(Usage, match=said):
        read_script(folder / "s.py")
