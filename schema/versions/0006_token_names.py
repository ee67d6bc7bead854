"""The personal tokens of a user have different names"""

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None
oldest_program: str = "0006"


def upgrade() -> None:
    # Requests at the same moment could create tokens of one name. The first keeps it, and the
    # others get their id behind it, within the 100 characters that a name may have.
    op.execute(
        "UPDATE sessions SET name = left(name, 63) || ' ' || id"
        " WHERE EXISTS (SELECT FROM sessions AS first WHERE first.user_id = sessions.user_id"
        " AND first.name = sessions.name"
        " AND (first.created_at, first.id) < (sessions.created_at, sessions.id))"
    )
    op.create_index(
        op.f("uq_sessions_user_id_name"),
        "sessions",
        ["user_id", "name"],
        unique=True,
        postgresql_where=sa.text("name IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index(op.f("uq_sessions_user_id_name"), "sessions")
