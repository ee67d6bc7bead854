"""Email addresses as they were typed"""

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | None = None
depends_on: str | None = None
oldest_program: str = "0007"


def upgrade() -> None:
    op.add_column("users", sa.Column("email_as_typed", sa.Text(), nullable=True))
    op.create_check_constraint(
        op.f("ck_users_email_as_typed"), "users", "char_length(email_as_typed) BETWEEN 3 AND 254"
    )


def downgrade() -> None:
    op.drop_column("users", "email_as_typed")
