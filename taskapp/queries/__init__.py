"""Every SQL statement that serves requests, compiled at import.

The owner is the first argument of every function and part of every WHERE clause. It is a session
rather than a user id: the statement that does the work also checks that the session is live, so a
request makes one round trip. A second statement runs only if the first found nothing, to find the
reason.
"""
