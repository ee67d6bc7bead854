"""Every SQL statement that requests and jobs run, by table; each is compiled at import.

Functions on a user's data take the session first, and every WHERE restricts rows to its user. They
take the session token rather than a user's id: the statement itself checks that the session is
live, so a request needs one round trip. Only after a statement without rows does a second one find
out why.
"""
