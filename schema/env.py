"""Alembic's entry point: runs the migrations on a given connection or URL."""

from collections.abc import Collection, Mapping
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from sqlalchemy import create_engine, make_url
from sqlalchemy.engine import Connection

from schema import COMPATIBILITY
from schema.tables import metadata


def _record_oldest_program(
    ctx: MigrationContext,
    step: MigrationInfo,
    heads: Collection[str],
    run_args: Mapping[str, Any],
) -> None:
    """Write which programs may use the tables after a step. Alembic names the arguments."""
    for head in heads:
        module = context.script.get_revision(head).module
        comment = COMPATIBILITY.format(revision=head, oldest_program=module.oldest_program)
        ctx.execute(f"COMMENT ON TABLE alembic_version IS '{comment}'")


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_server_default=True,
        on_version_apply=_record_oldest_program,
    )
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
