"""Alembic's entry point: runs the migrations on a given connection or URL."""

from alembic import context
from sqlalchemy import create_engine, make_url
from sqlalchemy.engine import Connection

from schema.tables import metadata


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()


def run() -> None:
    """Run the migrations on `attributes["connection"]`, or on the URL of `alembic -x url=...`."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
        return
    url = make_url(context.get_x_argument(as_dictionary=True)["url"])
    with create_engine(url).connect() as own_connection:
        _migrate(own_connection)


run()
