"""How the installer learns where packages come from."""

from pathlib import Path

from rgrid.pool.package_index import read


def test_the_settings_of_pip_are_said_in_the_words_of_uv(tmp_path: Path) -> None:
    index = read(
        {
            "PIP_INDEX_URL": "https://user:very-secret@index.example/simple",
            "PIP_EXTRA_INDEX_URL": "https://more.example/simple",
            "PIP_TRUSTED_HOST": "index.example",
            "PIP_PROXY": "http://proxy.example:3128",
            "PIP_DEFAULT_TIMEOUT": "180",
            "PIP_RETRIES": "0",
            "PIP_PASSWORD_OF_SOMETHING_ELSE": "stays outside",
            "AWS_SECRET_ACCESS_KEY": "stays outside",
        },
        [],
        [],
    )
    env = {name: value for name, value in index.env.items() if name != "UV_SYSTEM_CERTS"}
    assert env == {
        "UV_DEFAULT_INDEX": "https://user:very-secret@index.example/simple",
        "UV_EXTRA_INDEX_URL": "https://more.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "index.example",
        "ALL_PROXY": "http://proxy.example:3128",
        "UV_HTTP_TIMEOUT": "180",
        "UV_HTTP_RETRIES": "0",
    }
    assert set(index.masked) == {"very-secret", "user"}


def test_a_variable_wins_over_a_file_and_uv_over_pip(tmp_path: Path) -> None:
    (tmp_path / "first.conf").write_text("[global]\nindex-url = https://a.example\ntimeout = 7\n")
    (tmp_path / "second.conf").write_text("[install]\nindex_url = https://b.example\n[list]\nno-index = true\n")
    files = [tmp_path / "first.conf", tmp_path / "second.conf", tmp_path / "absent.conf"]
    assert read({}, files, []).env["UV_DEFAULT_INDEX"] == "https://b.example"
    assert read({}, files, []).env["UV_HTTP_TIMEOUT"] == "7"
    assert not read({}, files, []).no_index
    given = {"PIP_INDEX_URL": "https://c.example"}
    assert read(given, files, []).env["UV_DEFAULT_INDEX"] == "https://c.example"
    both = given | {"UV_INDEX_URL": "https://d.example"}
    assert "UV_DEFAULT_INDEX" not in read(both, files, []).env
    assert read(both, files, []).env["UV_INDEX_URL"] == "https://d.example"


def test_folders_of_packages_and_certificates_are_found(tmp_path: Path) -> None:
    for folder in ("mirror/simple", "wheels"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ca.pem").write_text("a certificate")
    (tmp_path / "pip.conf").write_text(
        f"[global]\ncert = {tmp_path}/ca.pem\nno-index = yes\nfind-links = {tmp_path}/wheels\n"
        f"extra-index-url =\n    file://{tmp_path}/mirror/simple\n    https://more.example/simple\n"
    )
    index = read({"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}, [], [])
    assert index.folders == (tmp_path / "mirror", tmp_path / "wheels")
    assert index.certificates == tmp_path / "ca.pem"
    assert index.no_index
    assert index.identity != read({}, [], []).identity


def test_a_file_that_is_no_configuration_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("no section = here\n")
    assert read({}, [tmp_path / "pip.conf"], []).identity == read({}, [], []).identity
