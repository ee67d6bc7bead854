"""The tables, the only place that defines columns, their limits and indexes."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    false,
    func,
    text,
)

EMAIL_LENGTH = 254  # characters; RFC 5321, 4.5.3.1.3, without the angle brackets
TITLE_LENGTH = 255  # characters
DESCRIPTION_LENGTH = 10_000  # characters
IDEMPOTENCY_KEY_LENGTH = 255  # characters
TOKEN_NAME_LENGTH = 100  # characters
USER_AGENT_LENGTH = 256  # characters; longer ones are truncated
STATUSES = ("pending", "completed")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _timestamp(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


def _owner(*, primary_key: bool = False) -> Column[str]:
    return Column(
        "user_id",
        Uuid(as_uuid=False),
        ForeignKey("users.id", ondelete="CASCADE"),
        nullable=False,
        primary_key=primary_key,
    )


users = Table(
    "users",
    metadata,
    Column("id", Uuid(as_uuid=False), primary_key=True),
    # What logins are compared with; none: the account is closed, and is being deleted.
    Column("email", Text, unique=True),
    # As it was typed, to be shown; none: the account is of a time when `email` was case-folded.
    Column("email_as_typed", Text),
    Column("password_hash", Text, nullable=False),
    _timestamp("created_at"),
    _timestamp("updated_at"),
    Column("last_active_on", Date),
    # How many tasks there are, and their titles and descriptions in characters. Triggers on tasks
    # keep both (migrations 0010 and 0011), except for a statement that does so itself.
    Column("task_count", BigInteger, nullable=False, server_default="0"),
    Column("task_characters", BigInteger, nullable=False, server_default="0"),
    CheckConstraint(f"char_length(email) BETWEEN 3 AND {EMAIL_LENGTH}", name="email"),
    CheckConstraint(
        f"char_length(email_as_typed) BETWEEN 3 AND {EMAIL_LENGTH}", name="email_as_typed"
    ),
)

# A personal token is a session with a name, for scripts. It ends at `expires_at` ("infinity" for
# never), however rarely it is used.
sessions = Table(
    "sessions",
    metadata,
    Column("id", Uuid(as_uuid=False), primary_key=True),
    _owner(),
    Column("secret_hash", LargeBinary, nullable=False, unique=True),
    _timestamp("created_at"),
    _timestamp("last_used_at"),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("address", Text, nullable=False, server_default=""),  # rate limit key, at last use
    Column("user_agent", Text, nullable=False, server_default=""),
    Column("name", Text),
    Column("is_read_only", Boolean, nullable=False, server_default=false()),
    CheckConstraint("octet_length(secret_hash) = 32", name="secret_hash"),
    CheckConstraint(f"char_length(user_agent) <= {USER_AGENT_LENGTH}", name="user_agent"),
    CheckConstraint(f"char_length(name) BETWEEN 1 AND {TOKEN_NAME_LENGTH}", name="name"),
    Index(None, "user_id", "address"),
    Index(None, "expires_at"),
    # Partial: only tokens have a name, and those of a user are counted by it.
    Index(
        "uq_sessions_user_id_name",
        "user_id",
        "name",
        unique=True,
        postgresql_where="name IS NOT NULL",
    ),
)

# The last logins of each user.
logins = Table(
    "logins",
    metadata,
    _owner(primary_key=True),
    Column("session_id", Uuid(as_uuid=False), primary_key=True),  # which may have ended
    _timestamp("created_at"),
    Column("address", Text, nullable=False),  # rate limit key
    Column("user_agent", Text, nullable=False),
    CheckConstraint(f"char_length(user_agent) <= {USER_AGENT_LENGTH}", name="user_agent"),
)

# Addresses from which a user has logged in: there the account's own limit of logins does not apply.
login_addresses = Table(
    "login_addresses",
    metadata,
    _owner(primary_key=True),
    Column("address", Text, primary_key=True),  # rate limit key
    _timestamp("last_login_at"),
    Index(None, "last_login_at"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Uuid(as_uuid=False), primary_key=True),
    _owner(),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("status", Text, nullable=False, server_default=STATUSES[0]),
    _timestamp("created_at"),
    _timestamp("updated_at"),
    Column("completed_at", DateTime(timezone=True)),  # none: pending, or done before it was stored
    Column("idempotency_key", Text),
    CheckConstraint(f"char_length(title) BETWEEN 1 AND {TITLE_LENGTH}", name="title"),
    CheckConstraint(f"char_length(description) <= {DESCRIPTION_LENGTH}", name="description"),
    CheckConstraint(f"status IN {STATUSES!r}", name="status"),
    CheckConstraint(
        f"char_length(idempotency_key) BETWEEN 1 AND {IDEMPOTENCY_KEY_LENGTH}",
        name="idempotency_key",
    ),
    Index(None, "user_id", "id"),
    Index(None, "user_id", "status", "id"),
    # The completed ones by their completion; those without its time come last.
    Index(
        "ix_tasks_user_id_completed_at",
        "user_id",
        text("coalesce(completed_at, '-infinity'::timestamptz)"),
        "id",
        postgresql_where="status = 'completed'",
    ),
    # Partial: most tasks have no key, and take no space in this index.
    Index(
        "uq_tasks_user_id_idempotency_key",
        "user_id",
        "idempotency_key",
        unique=True,
        postgresql_where="idempotency_key IS NOT NULL",
    ),
)
