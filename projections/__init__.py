"""The read side: one question, one pair of files. A pair owns its tables, the functions that fill them, its queries."""
