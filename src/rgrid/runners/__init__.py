"""Workers: processes that run scripts, how they come, are drained, stop and get lost."""
