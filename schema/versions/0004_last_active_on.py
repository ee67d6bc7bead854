"""The day on which each account was last used"""

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None
oldest_program: str = "0004"


def upgrade() -> None:
    op.add_column("users", sa.Column("last_active_on", sa.Date(), nullable=True))


def downgrade() -> None:
    op.drop_column("users", "last_active_on")
