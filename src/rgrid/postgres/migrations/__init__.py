"""Numbered SQL files; `migrate` applies each once, in order. A released file is never edited."""
