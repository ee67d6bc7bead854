"""PostgreSQL as an operator runs it: the embedded server."""
