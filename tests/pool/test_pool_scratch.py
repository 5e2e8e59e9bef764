"""The folder of an attempt: checked before the script, removed whatever the script left in it."""

import os
import stat
from pathlib import Path

import pytest
from pool.test_outputs import ref

from rgrid.pool.protocol import Lease
from rgrid.pool.scratch import InputMissing, folder_of, make_folder, place, remove_tree, verify

LEASE = Lease(execution_id="exec_1", attempt=2, fencing_token=3)


def test_a_folder_is_made_empty_even_after_a_left_over_of_the_same_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, LEASE)
    make_folder(folder)
    (folder.work / "old").write_bytes(b"x")
    make_folder(folder)
    assert list(folder.work.iterdir()) == []
    assert stat.S_IMODE(folder.work.stat().st_mode) == 0o700


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    assert place(tmp_path, "a/b.txt") == tmp_path / "a" / "b.txt"
    for name in ("../x", "/etc/passwd", "a/../../x", "", "a\0b"):
        with pytest.raises(InputMissing):
            place(tmp_path, name)


def test_an_input_that_is_a_link_or_differs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"data")
    (tmp_path / "link").symlink_to(tmp_path / "good")
    assert list(verify(tmp_path, [ref("good", b"data")])) == ["good"]
    for bad in (ref("link", b"data"), ref("absent", b"data"), ref("good", b"atad"), ref("good", b"data!")):
        with pytest.raises(InputMissing):
            verify(tmp_path, [bad])


def test_a_tree_of_any_depth_is_removed(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    here = os.open(root, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    remove_tree(root)
    assert list(tmp_path.iterdir()) == []


def test_a_tree_is_removed_without_following_its_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"x")
    root = tmp_path / "tree"
    (root / "closed").mkdir(parents=True)
    (root / "closed" / "link").symlink_to(outside)
    (root / "closed" / "file").write_bytes(b"x")
    (root / "closed").chmod(0)
    remove_tree(root)
    assert (outside / "kept").exists()
    assert not root.exists()
    remove_tree(root)  # twice is fine
