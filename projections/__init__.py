"""The read side: one question, one pair of files."""
