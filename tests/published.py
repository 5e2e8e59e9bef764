"""Files that are made of the code and lie beside the documentation. `python tests/published.py` writes them anew."""

from pathlib import Path
from typing import Final

from rgrid.api import workflow_schema

TREE: Final = Path(__file__).resolve().parent.parent
FILES: Final = {TREE / "docs/workflow.schema.json": workflow_schema.published}

if __name__ == "__main__":
    for path, content in FILES.items():
        path.write_bytes(content())
