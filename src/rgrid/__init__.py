"""rgrid: a self-hosted grid for scripts."""
