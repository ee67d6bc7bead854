"""Where sessions are, personal tokens, and the addresses of logins"""

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None
oldest_program: str = "0003"


def upgrade() -> None:
    for name in ("address", "user_agent"):
        op.add_column("sessions", sa.Column(name, sa.Text(), server_default="", nullable=False))
    op.add_column("sessions", sa.Column("name", sa.Text(), nullable=True))
    op.add_column(
        "sessions",
        sa.Column("is_read_only", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    for name, condition in (
        ("user_agent", "char_length(user_agent) <= 256"),
        ("name", "char_length(name) BETWEEN 1 AND 100"),
    ):
        op.create_check_constraint(op.f(f"ck_sessions_{name}"), "sessions", condition)
    op.create_index(op.f("ix_sessions_user_id_address"), "sessions", ["user_id", "address"])
    op.drop_index(op.f("ix_sessions_user_id"), "sessions")
    op.create_table(
        "login_addresses",
        sa.Column("user_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column(
            "last_login_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_login_addresses_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "address", name=op.f("pk_login_addresses")),
    )
    op.create_index(op.f("ix_login_addresses_last_login_at"), "login_addresses", ["last_login_at"])


def downgrade() -> None:
    op.drop_table("login_addresses")
    op.create_index(op.f("ix_sessions_user_id"), "sessions", ["user_id"])
    # Without its name a token would be a session, and one that may write.
    op.execute("DELETE FROM sessions WHERE name IS NOT NULL")
    for name in ("is_read_only", "name", "user_agent", "address"):
        op.drop_column("sessions", name)
