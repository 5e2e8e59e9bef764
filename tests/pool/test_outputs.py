"""What counts as an output: new and changed regular files, by usable names, within the limits; nothing from outside."""

import hashlib
import os
import socket
from pathlib import Path

import pytest

from rgrid.pool.outputs import (
    DEPTH_MAX,
    NAMED_CHARACTERS_MAX,
    Collected,
    OutputLimits,
    collect,
    content_type_of,
    name_dropped,
)
from rgrid.pool.protocol import InputRef
from rgrid.pool.scratch import Seen, verify


def ref(name: str, data: bytes) -> InputRef:
    return InputRef(name=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def with_inputs(work: Path, **inputs: bytes) -> dict[str, Seen]:
    for name, data in inputs.items():
        (work / name).write_bytes(data)
    return verify(work, [ref(name, data) for name, data in inputs.items()])


def names(collected: Collected) -> list[str]:
    return [found.filename for found in collected.files]


def take(work: Path, before: dict[str, Seen] | None = None, **limits: int) -> Collected:
    return collect(work, before or {}, OutputLimits(**limits))


def test_new_and_changed_files_are_outputs_and_unchanged_inputs_are_not(tmp_path: Path) -> None:
    before = with_inputs(tmp_path, same=b"same", longer=b"old", replaced=b"old", touched=b"t", copied=b"c")
    (tmp_path / "longer").write_bytes(b"older")
    (tmp_path / "replaced").write_bytes(b"new")
    (tmp_path / "touched").touch()
    (tmp_path / "copied").unlink()
    (tmp_path / "copied").write_bytes(b"c")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "fresh.txt").write_bytes(b"")
    (tmp_path / "same.txt").write_bytes(b"same")
    found = take(tmp_path, before)
    assert names(found) == ["a/b/fresh.txt", "longer", "replaced", "same.txt"]
    assert [one.size_bytes for one in found.files] == [0, 5, 3, 4]


def test_a_change_is_seen_though_its_time_and_size_were_set_back(tmp_path: Path) -> None:
    before = with_inputs(tmp_path, sly=b"old")
    (tmp_path / "sly").write_bytes(b"new")
    os.utime(tmp_path / "sly", ns=(before["sly"].mtime_ns, before["sly"].mtime_ns))
    assert names(take(tmp_path, before)) == ["sly"]


def test_links_sockets_devices_and_fifos_are_not_even_opened(tmp_path: Path) -> None:
    outside, work = tmp_path / "outside", tmp_path / "work"
    outside.mkdir()
    work.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (work / "file_link").symlink_to(outside / "secret")
    (work / "folder_link").symlink_to(outside)
    (work / "loop").symlink_to(work)
    os.mkfifo(work / "fifo")  # opening it for reading would wait for ever
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(work / "socket"))
    (work / "real").write_bytes(b"real")
    found = take(work)
    assert (names(found), found.dropped) == (["real"], [])


def test_an_input_swapped_for_a_link_is_not_followed(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "secret").write_bytes(b"abc")
    before = with_inputs(work, data=b"old")
    (work / "data").unlink()
    (work / "data").symlink_to(tmp_path / "secret")
    assert names(take(work, before)) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to own a file as somebody else")
def test_a_second_name_of_somebody_elses_file_is_dropped(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "theirs").write_bytes(b"theirs")
    os.link(tmp_path / "theirs", work / "mine")
    os.chown(work, 4711, 4711)
    (work / "own").write_bytes(b"x")
    os.chown(work / "own", 4711, 4711)
    os.link(work / "own", work / "own too")
    found = take(work)
    assert (names(found), found.dropped) == (["own", "own too"], ["mine"])


def test_the_excess_over_the_limits_is_dropped_and_named(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).write_bytes(name.encode() * 10)
    (tmp_path / "b").write_bytes(b"b" * 100)
    found = take(tmp_path, bytes_max=30)
    assert (names(found), found.dropped) == (["a", "c", "d"], ["b"])
    found = take(tmp_path, files_max=2)
    assert (names(found), found.dropped) == (["a", "b"], ["c", "d"])


def test_a_sparse_file_counts_with_its_whole_size(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**40)
    assert take(tmp_path).dropped == ["huge"]


def test_names_that_nobody_can_use_are_dropped_and_shown_printable(tmp_path: Path) -> None:
    for name in (b"bad\xff.txt", b"line\nbreak", b"back\\slash", b"bell\x07", "grüße.txt".encode(), b"two words"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    (tmp_path / os.fsdecode(b"dir\xff")).mkdir()
    (tmp_path / os.fsdecode(b"dir\xff") / "inside").write_bytes(b"x")
    found = take(tmp_path)
    assert names(found) == ["grüße.txt", "two words"]
    assert found.dropped == ["back\\slash", "bad\\xff.txt", "bell\\x07", "dir\\xff", "line\\nbreak"]
    assert all(name.isprintable() for name in found.dropped)


def test_folders_nested_beyond_the_bound_are_dropped(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * (DEPTH_MAX - 1))
    deep.mkdir(parents=True)
    (deep / "last.txt").write_bytes(b"x")
    (deep / "e").mkdir()
    (deep / "e" / "beyond.txt").write_bytes(b"x")
    found = take(tmp_path)
    assert [one.filename.rpartition("/")[2] for one in found.files] == ["last.txt"]
    assert [name.rpartition("/")[2] for name in found.dropped] == ["e"]


def test_files_whose_permissions_the_script_took_away_are_still_found(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "file").write_bytes(b"x")
    (tmp_path / "closed" / "file").chmod(0)
    (tmp_path / "closed").chmod(0)
    assert names(take(tmp_path)) == ["closed/file"]


def test_what_was_dropped_is_named_within_a_bound() -> None:
    assert name_dropped(["a", "b"]) == "a, b"
    many = name_dropped([f"file-{n:04d}.bin" for n in range(1000)])
    assert len(many) < NAMED_CHARACTERS_MAX + 30
    assert many.endswith(" more")
    assert many.startswith("file-0000.bin, file-0001.bin, ")


def test_the_type_is_guessed_from_the_name() -> None:
    kinds = {
        "a/b.csv": "text/csv",
        "x.json": "application/json",
        "x.png": "image/png",
        "x.parquet": "application/vnd.apache.parquet",
        "x.tar.gz": "application/gzip",
        "x": "application/octet-stream",
        "x.unheard": "application/octet-stream",
    }
    assert {name: content_type_of(name) for name in kinds} == kinds
