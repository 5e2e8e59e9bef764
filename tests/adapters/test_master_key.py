"""The master key: given, made once, or the start is refused; never guessed and never shown."""

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rgrid.adapters.master_key import master_keys
from rgrid.settings import BadSetting, Settings


def test_a_key_file_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    with ThreadPoolExecutor(8) as threads:
        made = set(threads.map(lambda _: master_keys(settings), range(8)))
    assert len(made) == 1
    assert master_keys(settings) in made
    (path,) = (tmp_path / "data").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert master_keys(Settings(data_dir=tmp_path / "other")) not in made


def test_with_a_database_elsewhere_and_no_key_the_start_is_refused(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url="postgresql://db.example.com/app")
    with pytest.raises(BadSetting, match="RGRID_ENCRYPTION_KEY: is needed"):
        master_keys(settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["ab" * 32, base64.b64encode(b"\xab" * 32).decode(), f" {'ab' * 32} ,{'cd' * 32}"])
def test_a_key_is_read_from_hex_or_base64(text: str) -> None:
    assert master_keys(Settings(encryption_key=text)).keys[0] == b"\xab" * 32


@pytest.mark.parametrize(
    "text", ["hunter2", "ab" * 16, "zz" * 32, base64.b64encode(b"x" * 31).decode(), "ab" * 32 + ","]
)
def test_what_is_no_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(BadSetting, match="32 bytes") as refusal:
        master_keys(Settings(encryption_key=text))
    assert text.strip(",") not in refusal.value.detail


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    master_keys(settings)
    (tmp_path / "encryption.key").chmod(0o644)
    with pytest.raises(BadSetting, match="chmod 600"):
        master_keys(settings)


def test_a_damaged_key_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "encryption.key"
    path.write_text("short")
    path.chmod(0o600)
    with pytest.raises(BadSetting):
        master_keys(Settings(data_dir=tmp_path))
    assert path.read_text() == "short"


def test_derived_keys_differ_by_purpose_and_never_equal_the_master_and_nothing_prints_them() -> None:
    keys = master_keys(Settings(encryption_key="ab" * 32 + "," + "cd" * 32))
    derived = keys.derived("signing") + keys.derived("tickets")
    assert len({*derived, *keys.keys}) == 6
    assert "ab" not in repr(keys)
    assert str(keys.keys[0]) not in str(keys)
