"""Settings: what wins, what is refused, what is reported, and that no secret is shown."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid.settings import NAMES, SECRETS, BadSetting, Settings, describe, load, unknown_names, variable


def test_without_any_variable_every_setting_is_its_default() -> None:
    settings = load(environ={})
    assert settings == Settings()
    assert {row.origin for row in describe(settings)} == {"default"}
    assert all(row.value == row.default for row in describe(settings))


def test_a_flag_wins_over_the_environment_and_a_flag_not_given_does_not() -> None:
    environ = {"RGRID_PORT": "9000", "RGRID_HOST": "0.0.0.0"}
    settings = load({"port": 9001, "host": None}, environ=environ)
    assert (settings.port, settings.host) == (9001, "0.0.0.0")
    origins = {row.name: row.origin for row in describe(settings)}
    assert origins["RGRID_PORT"] == "flag"
    assert origins["RGRID_HOST"] == "environment"
    assert origins["RGRID_SLOTS"] == "default"


def test_a_secret_can_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("sk_live_abc\n")
    settings = load(environ={"RGRID_BOOTSTRAP_KEY_FILE": str(path)})
    assert settings.bootstrap_key == "sk_live_abc"
    assert settings.origins == {"bootstrap_key": "file"}


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe", b"x" * 70_000])
def test_a_secret_file_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadSetting, match="RGRID_ENCRYPTION_KEY: its file"):
        load(environ={"RGRID_ENCRYPTION_KEY_FILE": str(path)})


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="keep one of them"):
        load(environ={"RGRID_API_KEY": "a", "RGRID_API_KEY_FILE": str(tmp_path / "b")})


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load(environ={"RGRID_DATABASE_URL": "", "RGRID_PORT": ""}) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("RGRID_PORT", "http", "must be a whole number from 0 to 65535, not 'http'"),
        ("RGRID_PORT", "65536", "must be a whole number from 0 to 65535"),
        ("RGRID_SLOTS", "-1", "must be a whole number from 0 to 4096"),
        ("RGRID_SLOTS", "1.5", "must be a whole number"),
        ("RGRID_METRICS_OPEN", "perhaps", "must be true or false, not 'perhaps'"),
        ("RGRID_LOG_LEVEL", "loud", "must be one of debug, info, warning, error, not 'loud'"),
        ("RGRID_RENEW_EVERY_S", "31", "at most half of RGRID_LEASE_TTL_S"),
    ],
)
def test_a_bad_value_is_refused_with_the_name_of_its_variable(name: str, text: str, says: str) -> None:
    with pytest.raises(BadSetting) as refusal:
        load(environ={name: text})
    assert f"{name}: " in refusal.value.detail
    assert says in refusal.value.detail
    assert [field for field, _ in refusal.value.fields] == [name]


def test_all_bad_values_are_reported_at_once() -> None:
    with pytest.raises(BadSetting) as refusal:
        load(environ={"RGRID_PORT": "x", "RGRID_SLOTS": "y"})
    assert [field for field, _ in refusal.value.fields] == ["RGRID_PORT", "RGRID_SLOTS"]


def test_texts_become_the_types_of_their_settings() -> None:
    settings = load(
        environ={
            "RGRID_DATA_DIR": "~/grid",
            "RGRID_METRICS_OPEN": "1",
            "RGRID_LOG_LEVEL": "DEBUG",
            "RGRID_CORS_ORIGINS": "https://a.example, https://b.example,",
        }
    )
    assert settings.data_dir == Path.home() / "grid"
    assert settings.metrics_open is True
    assert settings.log_level == "debug"
    assert settings.cors_origins == ("https://a.example", "https://b.example")


def test_a_relative_data_folder_becomes_absolute() -> None:
    assert load({"data_dir": Path("grid")}, environ={}).data_dir == Path.cwd() / "grid"


def test_an_unknown_name_is_reported_with_the_nearest_known_one() -> None:
    environ = {
        "RGRID_PROT": "1",
        "RGRID_DATABASE_ULR": "x",
        "RGRID_QQQQQQQQQ": "1",
        "RGRID_PORT": "1",
        "RGRID_ENCRYPTION_KEY_FILE": "x",
        "RGRID_SECRET_DB": "x",
        "RGRID_EXECUTION_ID": "exec_1",
        "PATH": "/bin",
    }
    assert unknown_names(environ) == [
        ("RGRID_DATABASE_ULR", "RGRID_DATABASE_URL"),
        ("RGRID_PROT", "RGRID_PORT"),
        ("RGRID_QQQQQQQQQ", None),
    ]


def test_a_file_form_of_a_setting_that_is_no_secret_is_unknown() -> None:
    assert unknown_names({"RGRID_HOST_FILE": "x"})[0][0] == "RGRID_HOST_FILE"


@given(st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs", "Cc"])), st.sampled_from(sorted(SECRETS)))
def test_no_secret_is_ever_described(secret: str, name: str) -> None:
    settings = load(environ={variable(name): secret})
    (row,) = [row for row in describe(settings) if row.name == variable(name)]
    assert row.value == "***"
    assert row.default is None


def test_every_setting_says_what_it_means() -> None:
    assert len(describe(Settings())) == len(NAMES)
    assert all(row.meaning for row in describe(Settings()))


def test_root_keeps_its_data_outside_its_home_and_others_inside() -> None:
    code = "from rgrid.settings import default_data_dir; print(default_data_dir())"
    environ = {**os.environ, "HOME": "/home/someone", "XDG_DATA_HOME": ""}
    shown = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    expected = "/var/lib/rgrid" if os.geteuid() == 0 else "/home/someone/.local/share/rgrid"
    assert shown.stdout.strip() == expected
