"""The smallest script: where does it run, and what does it see?"""

import os
import platform
import sys

print(f"hello from Python {platform.python_version()}, started in {os.getcwd()}")
print(f"arguments: {sys.argv[1:]}")
print(f"execution: {os.environ['RGRID_EXECUTION_ID']}, attempt {os.environ['RGRID_ATTEMPT']}")
print("this line goes to stderr", file=sys.stderr)
