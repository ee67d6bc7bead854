"""Errors, messages and small parts that use nothing else of taskapp."""
