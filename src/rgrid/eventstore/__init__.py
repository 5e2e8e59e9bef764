"""The log: append with expected versions in group commits, read by stream and by position."""
