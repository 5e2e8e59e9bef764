"""The Python client: `from rgrid.client.grid import Client`. It needs nothing of the service but its address."""
