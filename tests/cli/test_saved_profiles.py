"""Saved profiles: private, replaced in one step, and never sent to another address than their own."""

import argparse
import stat
from pathlib import Path

import pytest

from rgrid.cli import credentials
from rgrid.cli.connection import DEFAULT_URL, address
from rgrid.cli.main import main
from rgrid.cli.output import Failure


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RGRID_API_URL", "RGRID_API_KEY", "RGRID_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def asked(**flags: str) -> argparse.Namespace:
    return argparse.Namespace(**flags)


def test_only_the_owner_can_read_what_is_saved(home: Path) -> None:
    (home / ".rgrid").mkdir(mode=0o755)
    credentials.save("local", "http://a", "key-a")
    assert stat.S_IMODE((home / ".rgrid").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / ".rgrid" / "credentials").stat().st_mode) == 0o600
    assert [path.name for path in (home / ".rgrid").iterdir()] == ["credentials"]


def test_the_profile_saved_last_is_the_current_one() -> None:
    credentials.save("local", "http://a", "key-a")
    credentials.save("work", "http://b", "key-b")
    credentials.save("demo", "http://c", "key-c", make_current=False)
    assert address(asked())[:2] == ("http://b", "key-b")
    assert address(asked(profile="local"))[:2] == ("http://a", "key-a")


def test_flags_win_over_the_environment_and_that_over_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.save("local", "http://a", "key-a")
    monkeypatch.setenv("RGRID_API_URL", "http://b")
    monkeypatch.setenv("RGRID_API_KEY", "key-b")
    assert address(asked())[:2] == ("http://b", "key-b")
    assert address(asked(api_url="http://c", api_key="key-c"))[:2] == ("http://c", "key-c")


def test_a_saved_key_goes_to_no_other_address(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.save("local", "http://a", "key-a")
    monkeypatch.setenv("RGRID_API_URL", "http://elsewhere")
    assert address(asked())[:2] == ("http://elsewhere", None)
    assert address(asked(profile="local", api_url="http://elsewhere"))[:2] == ("http://elsewhere", None)


def test_without_anything_the_service_on_this_machine_is_meant() -> None:
    assert address(asked())[:2] == (DEFAULT_URL, None)


def test_an_unknown_profile_is_named_with_the_known_ones() -> None:
    credentials.save("local", "http://a", "key-a")
    with pytest.raises(Failure, match="no profile wrk; saved: local"):
        address(asked(profile="wrk"))


def test_a_damaged_file_is_said_to_be_damaged(home: Path) -> None:
    (home / ".rgrid").mkdir()
    (home / ".rgrid" / "credentials").write_text("{")
    with pytest.raises(Failure, match="can't be read"):
        credentials.load()


def test_a_shell_can_have_a_profile_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.save("local", "http://a", "key-a")
    credentials.save("work", "http://b", "key-b")
    monkeypatch.setenv("RGRID_PROFILE", "local")
    assert address(asked()) == ("http://a", "key-a", "profile local")
    assert address(asked(profile="work"))[:2] == ("http://b", "key-b")
    monkeypatch.setenv("RGRID_API_URL", "http://c")
    assert address(asked())[:2] == ("http://c", None)
    monkeypatch.setenv("RGRID_PROFILE", "wrk")
    with pytest.raises(Failure, match="no profile wrk; saved: local, work"):
        address(asked())


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_another_profile_can_be_chosen_and_one_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Nothing is saved yet" in run(capsys, "profiles")[2]
    credentials.save("local", "http://a", "key-a")
    credentials.save("work", "http://b", "key-b")
    assert run(capsys, "profile", "use", "local")[:2] == (0, "local is the current profile: http://a\n")
    assert address(asked())[:2] == ("http://a", "key-a")
    listed = run(capsys, "profiles", "list")[1].splitlines()
    assert [line.split() for line in listed[1:]] == [["*", "local", "http://a"], ["work", "http://b"]]
    assert "key-a" not in run(capsys, "profiles", "list", "--json")[1]
    code, _, said = run(capsys, "profiles", "use", "wrk")
    assert (code, "no profile wrk" in said, "rgrid profiles list" in said) == (1, True, True)
    assert "rgrid profiles use work" in run(capsys, "profiles", "forget", "local")[2]
    assert list(credentials.load().profiles) == ["work"]
    assert address(asked())[:2] == (DEFAULT_URL, None)


def test_choosing_says_when_the_shell_has_chosen_otherwise(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials.save("local", "http://a", "key-a")
    credentials.save("work", "http://b", "key-b")
    monkeypatch.setenv("RGRID_PROFILE", "work")
    assert "unset RGRID_PROFILE" in run(capsys, "profiles", "use", "local")[2]
