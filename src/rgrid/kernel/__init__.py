"""Pure vocabulary: messages, deciders, errors, ids, the clock, money. Imports nothing of rgrid."""
