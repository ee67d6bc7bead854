"""HTTP: reads the request, calls an operation, writes the answer. Never builds SQL."""
