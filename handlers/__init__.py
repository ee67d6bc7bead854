"""HTTP: reads the request, calls an operation, writes the response. Never builds SQL."""
