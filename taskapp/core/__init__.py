"""Errors, messages and small parts that import nothing else of taskapp."""
