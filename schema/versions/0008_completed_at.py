"""When tasks were completed"""

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | None = None
depends_on: str | None = None
oldest_program: str = "0008"


def upgrade() -> None:
    # Of tasks that are completed already, the time is not known.
    op.add_column("tasks", sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        op.f("ix_tasks_user_id_completed_at"),
        "tasks",
        ["user_id", sa.text("coalesce(completed_at, '-infinity'::timestamptz)"), "id"],
        postgresql_where=sa.text("status = 'completed'"),
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_tasks_user_id_completed_at"), "tasks")
    op.drop_column("tasks", "completed_at")
