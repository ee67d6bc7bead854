"""Each user has the number of their tasks and of all characters in these

Triggers keep both, so that they are right whatever writes, also a version before this one.
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | None = None
depends_on: str | None = None
oldest_program: str = "0010"

_CHANGES = {
    "insert": "SELECT user_id, 1 AS number, char_length(title) + char_length(description) AS size"
    " FROM added",
    "delete": "SELECT user_id, -1 AS number, -char_length(title) - char_length(description) AS size"
    " FROM removed",
    "update": "SELECT user_id, 1 AS number, char_length(title) + char_length(description) AS size"
    " FROM added UNION ALL"
    " SELECT user_id, -1, -char_length(title) - char_length(description) FROM removed",
}
_TABLES = {
    "insert": "NEW TABLE AS added",
    "delete": "OLD TABLE AS removed",
    "update": "OLD TABLE AS removed NEW TABLE AS added",
}


def upgrade() -> None:
    for name in ("task_count", "task_characters"):
        op.add_column("users", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
    for event, changes in _CHANGES.items():
        # By a loop, because each UPDATE of one row uses the primary key.
        op.execute(
            f"CREATE FUNCTION count_tasks_on_{event}() RETURNS trigger LANGUAGE plpgsql"  # noqa: S608  # nosec B608  # our names
            " AS $$ DECLARE change record; BEGIN FOR change IN"
            f" SELECT user_id, sum(number) AS number, sum(size) AS size FROM ({changes}) AS each"
            " GROUP BY user_id HAVING sum(number) <> 0 OR sum(size) <> 0"
            " LOOP UPDATE users SET task_count = task_count + change.number,"
            " task_characters = task_characters + change.size WHERE id = change.user_id;"
            " END LOOP; RETURN NULL; END $$"
        )
        op.execute(
            f"CREATE TRIGGER count_tasks_on_{event} AFTER {event.upper()} ON tasks"
            f" REFERENCING {_TABLES[event]} FOR EACH STATEMENT"
            f" EXECUTE FUNCTION count_tasks_on_{event}()"
        )
    # The triggers lock out other writers until this is committed.
    op.execute(
        "UPDATE users SET task_count = counted.number, task_characters = counted.size FROM"
        " (SELECT user_id, count(*) AS number,"
        " sum(char_length(title) + char_length(description)) AS size FROM tasks GROUP BY user_id)"
        " AS counted WHERE users.id = counted.user_id"
    )


def downgrade() -> None:
    for event in _CHANGES:
        op.execute(f"DROP TRIGGER count_tasks_on_{event} ON tasks")
        op.execute(f"DROP FUNCTION count_tasks_on_{event}()")
    for name in ("task_count", "task_characters"):
        op.drop_column("users", name)
