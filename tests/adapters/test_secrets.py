"""Secret references: what is refused when written, what is found when used, and that nothing leaks."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid.adapters import secrets
from rgrid.adapters.secrets import BadReference, SecretMissing, Secrets
from rgrid.settings import Settings

ANY = Secrets(Settings())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "secrets"
    path.mkdir()
    return path


@pytest.mark.parametrize(
    "reference",
    [
        "env:RGRID_SECRET_DB",
        "file:db.password",
        "vault:postgres/app",
        "vault:postgres/app#password",
        "secret:aws:prod/db",
    ],
)
def test_good_references_are_accepted(reference: str) -> None:
    ANY.check(reference)


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "plain",
        "env:",
        "env:PATH",
        "env:RGRID_DATABASE_URL",
        "env:RGRID_SECRET_A B",
        "ENV:RGRID_SECRET_A",
        "file:",
        "file:../shadow",
        "file:a/b",
        "file:a..b",
        "file:/etc/shadow",
        "file:.hidden",
        "file:a\n",
        "vault:",
        "vault:/a",
        "vault:a/../b",
        "vault:a#",
        "secret:aws",
        "secret:aws:",
        "file:" + "x" * 1000,
    ],
)
def test_bad_references_are_refused_when_written_and_when_used(reference: str) -> None:
    with pytest.raises(BadReference):
        ANY.check(reference)
    with pytest.raises(BadReference):
        ANY.resolve(reference)


@given(st.text())
def test_a_file_reference_that_is_accepted_is_a_plain_name(name: str) -> None:
    try:
        ANY.check(f"file:{name}")
    except BadReference:
        return
    assert "/" not in name
    assert ".." not in name
    assert "\0" not in name
    assert Path("/run/secrets", name).parent == Path("/run/secrets")


def test_a_variable_with_the_prefix_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RGRID_SECRET_DB", "s3cret")
    assert Secrets(Settings()).resolve("env:RGRID_SECRET_DB") == "s3cret"
    monkeypatch.setenv("MY_DB", "other")
    assert Secrets(Settings(secret_env_prefix="MY_")).resolve("env:MY_DB") == "other"


def test_a_file_is_found_without_its_last_newline(folder: Path) -> None:
    (folder / "db").write_text("line one\nline two\n")
    assert Secrets(Settings(secrets_dir=folder)).resolve("file:db") == "line one\nline two"


def test_a_link_inside_the_folder_works_and_one_that_leads_out_does_not(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "db").write_text("inside")
    (folder / "db").symlink_to("data/db")
    (folder.parent / "outside").write_text("outside")
    (folder / "out").symlink_to("../outside")
    (folder / "loop").symlink_to("loop")
    found = Secrets(Settings(secrets_dir=folder))
    assert found.resolve("file:db") == "inside"
    for name in ("out", "loop", "data"):
        with pytest.raises(SecretMissing):
            found.resolve(f"file:{name}")


def test_a_missing_secret_names_the_reference_and_what_was_tried(folder: Path) -> None:
    found = Secrets(Settings(secrets_dir=folder))
    with pytest.raises(SecretMissing, match=r"env:RGRID_SECRET_NONE not found; tried: environment"):
        found.resolve("env:RGRID_SECRET_NONE")
    with pytest.raises(SecretMissing, match=r"file:none not found; tried: files in"):
        found.resolve("file:none")
    with pytest.raises(SecretMissing, match="no backend vault is configured"):
        found.resolve("vault:a/b")
    with pytest.raises(SecretMissing, match="no backend aws is configured"):
        found.resolve("secret:aws:a")


def test_what_is_no_text_or_too_large_is_refused_without_showing_it(folder: Path) -> None:
    (folder / "binary").write_bytes(b"\xff\xfe hidden")
    (folder / "huge").write_bytes(b"h" * 70_000)
    found = Secrets(Settings(secrets_dir=folder))
    for name in ("binary", "huge"):
        with pytest.raises(SecretMissing) as refusal:
            found.resolve(f"file:{name}")
        assert "hidden" not in refusal.value.detail
        assert "hhh" not in refusal.value.detail


def test_a_rotated_secret_is_seen_within_a_minute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, clock = Secrets(Settings(secrets_dir=folder)), [0]
    monkeypatch.setattr(secrets, "monotonic_ms", lambda: clock[0])
    (folder / "db").write_text("old")
    assert found.resolve("file:db") == "old"
    (folder / "db").write_text("new")
    clock[0] = 59_999
    assert found.resolve("file:db") == "old"
    clock[0] = 60_000
    assert found.resolve("file:db") == "new"
