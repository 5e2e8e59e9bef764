"""Files that come from elsewhere: checked, kept inside their folder, and never over what is there."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from rgrid.client.delivery import drive
from rgrid.client.problems import BadTransfer
from rgrid.client.transfers import download, safe_relative
from rgrid.client.transport import Transport

CONTENT = b"0123456789" * 100_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A file on a web server."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "file").write_bytes(CONTENT)
    handler = partial(QuietHandler, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/file"
    server.shutdown()
    server.server_close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """The test's output stays quiet."""


def fetch(url: str, folder: Path, name: str, sha256: str = SHA256, size_bytes: int = len(CONTENT)) -> Path:
    transport = Transport(url, None, waits_s=())
    try:
        return drive(download(transport.delivery, url, folder, name, sha256, size_bytes, lambda _: None))
    finally:
        transport.close()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_a_file_arrives_whole_under_its_name(url: str, tmp_path: Path) -> None:
    path = fetch(url, tmp_path / "out", "charts/a.svg")
    assert path == tmp_path / "out" / "charts" / "a.svg"
    assert path.read_bytes() == CONTENT
    assert files(tmp_path / "out") == ["charts/a.svg"]


def test_a_file_that_is_there_stays(url: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.csv").write_text("mine")
    assert fetch(url, tmp_path / "out", "a.csv").name == "a_1.csv"
    assert fetch(url, tmp_path / "out", "a.csv").name == "a_2.csv"
    assert (tmp_path / "out" / "a.csv").read_text() == "mine"


def test_a_dangling_link_counts_as_a_file_that_is_there(url: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.csv").symlink_to(tmp_path / "outside.csv")
    assert fetch(url, tmp_path / "out", "a.csv").name == "a_1.csv"
    assert not (tmp_path / "outside.csv").exists()


@pytest.mark.parametrize(("sha256", "size_bytes"), [("0" * 64, len(CONTENT)), (SHA256, len(CONTENT) + 1)])
def test_a_damaged_file_is_not_kept(url: str, tmp_path: Path, sha256: str, size_bytes: int) -> None:
    with pytest.raises(BadTransfer, match="damaged"):
        fetch(url, tmp_path / "out", "a.csv", sha256, size_bytes)
    assert files(tmp_path / "out") == []


def test_a_link_among_the_folders_leads_nowhere_else(url: str, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "outside")
    with pytest.raises(BadTransfer, match="outside"):
        fetch(url, tmp_path / "out", "sub/a.csv")
    assert files(tmp_path / "outside") == []


def test_a_file_where_a_folder_should_be_is_said(url: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").write_text("mine")
    with pytest.raises(BadTransfer, match="should be a folder"):
        fetch(url, tmp_path / "out", "sub/a.csv")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a.csv", "a.csv"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("a/./b//c", "a/b/c"),
        ("..\\..\\x", ".._.._x"),
        ("a\x1b[31m\nb", "a_[31m_b"),
        ("..", "unnamed"),
        ("", "unnamed"),
    ],
)
def test_a_name_stays_below_its_folder(name: str, safe: str) -> None:
    assert str(safe_relative(name)) == safe


def test_a_name_that_no_file_system_takes_is_cut() -> None:
    assert len(safe_relative("ä" * 300).name.encode()) <= 200
