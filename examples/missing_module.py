"""Fails, to show what a failure looks like: status, reason, a hint, and the script's own exit code."""

import a_module_that_nobody_has  # noqa: F401
