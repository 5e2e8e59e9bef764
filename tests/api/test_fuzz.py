"""Whatever clients send, no answer is a fault of the service, and every answer is one that the document announces.

schemathesis makes requests from the OpenAPI document: bounds and what lies just beyond, wrong types, missing and
doubled parameters, wrong methods, broken bodies, and chains of requests that use each other's answers.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from api.one_service import KEY, service

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
PHASES = "examples,coverage,fuzzing,stateful"
SEED = "20261"
EXAMPLES_MAX = "1"
WAIT_MAX_S = 150


def test_no_made_up_request_gets_an_answer_that_is_a_fault_or_not_announced() -> None:
    with tempfile.TemporaryDirectory(prefix="rgrid-fuzz-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres has a user of its own when this one is root
        with service(folder, slots=0, rate_limit=100_000, rate_burst=100_000, position_wait_s=1) as live:
            words = [
                sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()",
                "run", f"{live.url}/schema/openapi.json", "--header", f"Authorization: Bearer {KEY}",
                "--phases", PHASES, "--checks", CHECKS, "--max-examples", EXAMPLES_MAX, "--seed", SEED,
                "--continue-on-failure", "--suppress-health-check", "all", "--request-timeout", "20", "--no-color",
                "--generation-database", "none",
            ]  # fmt: skip
            told = subprocess.run(words, capture_output=True, text=True, timeout=WAIT_MAX_S, check=False, cwd=folder)
            assert told.returncode == 0, told.stdout[-20_000:] + told.stderr[-5_000:]
            assert "Operations:" in told.stdout
            assert live.http.get("/api/v1/health").status_code == 200
            assert '"level":"error"' not in (folder / "service.log").read_text()
