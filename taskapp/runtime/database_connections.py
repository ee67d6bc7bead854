"""How many connections PostgreSQL lets taskapp have."""

from taskapp.queries.postgresql import ServerFacts

# Besides the pool: two of a backup, and one that tries whether writes are confirmed.
OTHER_CONNECTIONS = 3
MORE_CONNECTIONS = (
    "Lower TASKAPP_DATABASE_POOL, or raise what is too low: max_connections of the server, or "
    "CONNECTION LIMIT of the user (ALTER ROLE) or of the database (ALTER DATABASE)."
)


def find_too_few_connections(facts: ServerFacts, pool: int) -> str:
    """Return a sentence, without a full stop, if fewer are allowed than a pool needs; else ""."""
    wanted = pool + OTHER_CONNECTIONS
    if wanted <= facts.max_connections:
        return ""
    return (
        f"the database allows this user {facts.max_connections} connections, and taskapp uses up "
        f"to {wanted}"
    )
