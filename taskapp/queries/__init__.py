"""What is asked of the database: one module a table, every statement compiled at import.

The owner comes first in every signature and stands in every WHERE. It is the proof of a session
rather than a user's id: the statement that does the work also asks whether the session is alive,
so a request makes one trip to the database. Only when a statement finds nothing does a second
one ask why.
"""
