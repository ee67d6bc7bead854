"""The tables of the database, and the migrations that create them."""

# The comment on the table alembic_version (ADR 0055).
COMPATIBILITY = "Revision {revision} may be used by programs of revision {oldest_program} or later"
