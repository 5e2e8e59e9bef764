"""HTTP as a driver: controllers that send one command or run one query."""
