"""`python -m rgrid` is `rgrid`."""

import sys

from rgrid.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
