"""The most frequent changes of tasks call no trigger that counts

A statement that has counted a new task itself says so, and an update calls the trigger only when
the number of characters changes. The triggers count whatever else writes.
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | None = None
depends_on: str | None = None
oldest_program: str = "0010"

_SIZE = "char_length({row}.title) + char_length({row}.description)"
_OLD, _NEW = (_SIZE.format(row=row) for row in ("OLD", "NEW"))
_INSERT_TRIGGER = (
    "CREATE TRIGGER count_tasks_on_insert AFTER INSERT ON tasks REFERENCING NEW TABLE AS added"
    " FOR EACH STATEMENT {condition}EXECUTE FUNCTION count_tasks_on_insert()"
)


def _count(user: str, number: str, size: str) -> str:
    return (
        f"UPDATE users SET task_count = task_count {number}, task_characters ="  # noqa: S608  # nosec B608  # our names
        f" task_characters {size} WHERE id = {user};"
    )


def upgrade() -> None:
    op.execute("DROP TRIGGER count_tasks_on_insert ON tasks")
    op.execute(
        _INSERT_TRIGGER.format(
            condition="WHEN (current_setting('taskapp.is_counted', true) IS DISTINCT FROM 'yes') "
        )
    )
    op.execute("DROP TRIGGER count_tasks_on_update ON tasks")
    op.execute(
        "CREATE OR REPLACE FUNCTION count_tasks_on_update() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN IF OLD.user_id = NEW.user_id THEN"
        f" {_count('NEW.user_id', '+ 0', f'+ {_NEW} - ({_OLD})')}"
        f" ELSE {_count('OLD.user_id', '- 1', f'- ({_OLD})')}"
        f" {_count('NEW.user_id', '+ 1', f'+ {_NEW}')}"
        " END IF; RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER count_tasks_on_update AFTER UPDATE ON tasks FOR EACH ROW"
        f" WHEN (OLD.user_id <> NEW.user_id OR {_OLD} <> {_NEW})"
        " EXECUTE FUNCTION count_tasks_on_update()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER count_tasks_on_insert ON tasks")
    op.execute(_INSERT_TRIGGER.format(condition=""))
    op.execute("DROP TRIGGER count_tasks_on_update ON tasks")
    of_update = op.get_bind().execute(
        sa.text("SELECT prosrc FROM pg_proc WHERE oid = 'count_tasks_on_insert'::regproc")
    )
    # That of an insert, and what was there before.
    source = of_update.scalar_one().replace(
        "FROM added)",
        "FROM added UNION ALL SELECT user_id, -1,"
        " -char_length(title) - char_length(description) FROM removed)",
    )
    op.execute(
        "CREATE OR REPLACE FUNCTION count_tasks_on_update() RETURNS trigger LANGUAGE plpgsql"
        f" AS $${source}$$"
    )
    op.execute(
        "CREATE TRIGGER count_tasks_on_update AFTER UPDATE ON tasks REFERENCING OLD TABLE AS"
        " removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_tasks_on_update()"
    )
