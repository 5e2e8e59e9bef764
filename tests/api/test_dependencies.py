"""Packages of scripts and runtimes by configuration, over HTTP and by the command line, on a service of their own.

Its machine has an index in a folder, said in pip's configuration file, so that nothing here needs the network.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api.one_service import KEY, SOURCES, Live, fields, problem, service
from neighbours import needs
from pool import wheels

AWK = next((path for path in ("/usr/bin/awk", "/bin/awk") if os.access(path, os.X_OK)), "/usr/bin/awk")


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    folder = Path(tempfile.mkdtemp(prefix="rgrid-deps-"))
    folder.chmod(0o755)
    packages = folder / "packages"
    packages.mkdir()
    wheels.wheel(packages, "alpha", "1.0")
    wheels.wheel(packages, "alpha", "2.0")
    wheels.wheel(packages, "beta", "1.0", requires=("alpha<2",))
    (folder / ".config" / "pip").mkdir(parents=True)
    (folder / ".config" / "pip" / "pip.conf").write_text(
        f"[global]\nno-index = true\nfind-links = {packages}\nretries = 0\n"
    )
    try:
        with service(folder, slots=2, runtimes=f'{{"awk": ["{AWK}", "-f"]}}') as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def log(live: Live, execution: dict[str, Any]) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = live.page(f"/api/v1/executions/{execution['execution_id']}/logs")["data"]
    return lines


def test_packages_of_a_requirements_text_are_there_and_the_text_comes_back(live: Live) -> None:
    text = "Beta  # brings alpha along\n"
    script = "import alpha, beta\nprint(alpha.VERSION, beta.VERSION)\n"
    submitted = live.submit(script, requirements_content=text)
    assert submitted["requirements_content"] == text
    ended = live.ended(submitted["execution_id"])
    assert (ended["status"], ended["stdout"]) == ("completed", "1.0 1.0\n"), ended
    assert ended["requirements_content"] == text
    assert ended["execution_metadata"]["packages"] == "installed"
    lines = log(live, ended)
    assert [line["sequence_number"] for line in lines] == list(range(len(lines)))
    installing = [line for line in lines if line["message"].startswith("[install] ")]
    assert installing == lines[:-1]
    assert {line["stream"] for line in installing} == {"stderr"}
    assert any("beta==1.0" in line["message"] for line in installing)
    event = live.events(ended["execution_id"])[0]["data"]
    assert (event["requirements_size_bytes"], len(event["requirements_sha256"])) == (len(text), 64)
    again = live.http.post(f"/api/v1/executions/{ended['execution_id']}/retry")
    assert again.json()["requirements_content"] == text
    reused = live.ended(again.json()["execution_id"])
    assert (reused["status"], reused["execution_metadata"]["packages"]) == ("completed", "reused")
    assert [line["message"] for line in log(live, reused)] == ["1.0 1.0"]


def test_metadata_inside_a_script_is_followed_and_added_to_the_text(live: Live) -> None:
    script = "# /// script\n# requires-python = '>=3.8'\n# dependencies = ['alpha>1']\n# ///\nimport alpha, beta\n"
    alone = live.submit(script.replace(", beta", "\nprint(alpha.VERSION)"))
    assert alone["requirements_content"] == "# from the script itself\nalpha>1\n"
    both = live.submit(script, requirements_content="beta")
    assert both["requirements_content"] == "beta\n# from the script itself\nalpha>1\n"
    assert live.ended(alone["execution_id"])["stdout"] == "2.0\n"
    conflict = live.ended(both["execution_id"])
    assert (conflict["status"], conflict["failure_reason"]) == ("failed", "dependency_install")
    assert "beta" in conflict["execution_error"]


def test_packages_that_can_not_be_found_fail_once_with_the_words_of_the_installer(live: Live) -> None:
    ended = live.run("print('never')", requirements_content="alpha==9.9\n", max_retries=3)
    assert (ended["status"], ended["failure_reason"]) == ("failed", "dependency_install")
    assert "alpha==9.9" in ended["execution_error"]
    assert (len(ended["attempts"]), ended["exit_code"], ended["cost_micros"]) == (1, None, 0)
    assert ended["stdout"] == ""
    assert "alpha==9.9" in ended["stderr"]


def test_packages_that_the_network_kept_away_are_tried_again(live: Live) -> None:
    away = "six @ http://127.0.0.1:9/six-1.0-py3-none-any.whl\n"
    ended = live.run("print('never')", requirements_content=away, max_retries=1)
    assert (ended["status"], ended["failure_reason"]) == ("failed", "dependency_install"), ended
    assert [attempt["failure_reason"] for attempt in ended["attempts"]] == ["dependency_install"] * 2
    numbers = [line["sequence_number"] for line in log(live, ended)]
    assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("requirements_content", {"requirements_content": "-r more.txt\n"}),
        ("requirements_content", {"requirements_content": "alpha\n./local\n"}),
        ("requirements_content", {"requirements_content": "alpha @ file:///etc/passwd"}),
        ("requirements_content", {"requirements_content": "alpha\n", "runtime": "bash"}),
        ("requirements_content", {"requirements_content": "alpha\n", "runtime": "awk"}),
        ("script_content", {"script_content": "# /// script\n# dependencies = 3\n# ///\n"}),
        ("script_content", {"script_content": "# /// script\n# dependencies = ['./x']\n# ///\n"}),
        ("script_content", {"script_content": "# /// script\n# requires-python = 'new'\n# ///\n"}),
        ("runtime", {"script_content": "# /// script\n# requires-python = '>=4'\n# ///\n"}),
    ],
)
def test_packages_that_can_not_be_meant_are_refused_before_anything_is_written(
    live: Live, field: str, body: dict[str, Any]
) -> None:
    answer = live.create(**{"script_content": "print(1)", **body})
    problem(answer, 422, "validation_failed")
    assert fields(answer) == {field}


def test_node_installs_no_python_packages_and_says_so(live: Live) -> None:
    needs("node", "nodejs")
    nodes = [
        one["name"] for one in live.page("/api/v1/runtimes")["data"] if one["language"] == "node" and one["available"]
    ]
    assert nodes, "node is here and no runtime is made of it"
    answer = live.create(script_content="console.log(1)", runtime=nodes[0], requirements_content="alpha")
    assert "Python" in problem(answer, 422, "validation_failed")["errors"][0]["message"]
    assert live.create(script_content="console.log(1)", runtime=nodes[0], requirements_content=" \n# none\n").is_success


def test_a_text_that_needs_nothing_installs_nothing(live: Live) -> None:
    ended = live.run("print(1)", requirements_content="\n# later\n")
    assert (ended["status"], ended["stderr"], ended["requirements_content"]) == ("completed", "", None)
    assert "packages" not in ended["execution_metadata"]


def test_a_runtime_by_configuration_runs_scripts_and_is_listed(live: Live) -> None:
    ended = live.run('BEGIN { print "hello", ARGV[1] }', runtime="AWK", args=["there"])
    assert (ended["status"], ended["stdout"], ended["runtime"]) == ("completed", "hello there\n", "awk"), ended
    (row,) = [one for one in live.page("/api/v1/runtimes")["data"] if one["name"] == "awk"]
    assert (row["available"], row["aliases"], row["language"], row["default"]) == (True, [], "awk", False)
    assert "RGRID_RUNTIMES" in row["description"]


def test_a_runtime_that_can_not_be_started_keeps_the_service_from_starting(tmp_path: Path) -> None:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": f"{SOURCES}:{SOURCES / 'src'}"}
    env |= {"RGRID_RUNTIMES": '{"r": ["/nowhere/Rscript"]}', "RGRID_DATA_DIR": str(tmp_path / "data")}
    command = [sys.executable, "-m", "rgrid", "up", "--port", "0"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode not in (0, None)
    assert "RGRID_RUNTIMES: 'r': /nowhere/Rscript is no program" in done.stderr, done.stderr


def test_run_takes_the_requirements_beside_a_script_or_those_that_are_named(live: Live, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("import alpha\nprint(alpha.VERSION)\n")
    (tmp_path / "requirements.txt").write_text("alpha<2\n")
    (tmp_path / "other.txt").write_text("alpha>=2\n")

    def rgrid(*words: str) -> "subprocess.CompletedProcess[str]":
        env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": f"{SOURCES}:{SOURCES / 'src'}"}
        env |= {"RGRID_API_URL": live.url, "RGRID_API_KEY": KEY}
        command = [sys.executable, "-m", "rgrid", "run", *words]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)

    assert rgrid("s.py").stdout == "1.0\n"
    assert rgrid("--requirements", "other.txt", "s.py").stdout == "2.0\n"
    without = rgrid("--no-requirements", "s.py")
    assert (without.returncode, "ModuleNotFoundError" in without.stderr) == (1, True)
    shown = rgrid("--dry-run", "--requirements=other.txt", "s.py")
    assert "alpha>=2" in shown.stdout
    wrong = rgrid("--requirements", "absent.txt", "s.py")
    assert (wrong.returncode, "absent.txt can't be read" in wrong.stderr) == (2, True)
