"""The scripts of the demonstration. They run on the grid and know nothing of rgrid."""
