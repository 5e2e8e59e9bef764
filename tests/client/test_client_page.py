"""The examples of docs/client.md run as they stand, against a real service."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from running_grid import TREE, Grid

PAGE = (TREE / "docs/client.md").read_text()
EXAMPLES = dict(re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
SAYS = {
    "Run a script": "completed 0 hello\n\n",
    "Files in, files out": "total.txt 7\n",
    "Follow the log": "stdout line 0\nstdout line 1\nstdout line 2\ncompleted\n",
    "Find executions": "listed {'team': 'sales'}\n",
    "Batches": "completed\n0 0\n1 1\n2 4\n",
    "Workflows": (
        "True 1\nCOMPLETED [('count', 'COMPLETED'), ('are_two', 'COMPLETED'), ('celebrate', 'COMPLETED')]\n"
        'count {"row_count": 2}\ncelebrate two\n'
    ),
    "Schedules": (
        "2026-03-02T06:00:00-05:00 2026-03-02T11:00:00+00:00\n"
        "2026-03-09T06:00:00-04:00 2026-03-09T10:00:00+00:00\nTrue 5\ncompleted\n"
    ),
    "What it costs": "True\n100\nFalse\n",
    "On asyncio": "[0, 1, 4, 9]\nTrue\n",
    "When something goes wrong": "404 not_found\n",
    "Anything else": "key\nTrue\n",
}


def test_every_example_of_the_page_is_run() -> None:
    assert list(EXAMPLES) == list(SAYS)
    assert PAGE.count("```python") == len(SAYS)


@pytest.mark.parametrize("title", list(SAYS))
def test_an_example_says_what_it_should(title: str, grid: Grid, tmp_path: Path) -> None:
    program = f"url, key = {grid.url!r}, {grid.key!r}\n{EXAMPLES[title]}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | grid.environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (SAYS[title], "")
