"""Load the bench data set: users with tasks, spread evenly over the year that ends now.

Run `python -m bench.load --help` in the checkout.
"""

import asyncio
from contextlib import closing
from dataclasses import replace
from time import perf_counter
from typing import Any

import click
import psycopg2

from taskapp.auth.passwords import PasswordHasher
from taskapp.cli.common import CliError, report_errors
from taskapp.config.environment import read_settings
from taskapp.config.settings import Settings
from taskapp.observability.logs import configure_logging
from taskapp.runtime.database_server import database_server, require_prepared_database

PASSWORD = "correct horse battery"  # noqa: S105  # of every account created here

# PostgreSQL before 18 has no uuidv7(). This one takes a random UUID of version 4, replaces its
# first 48 bits with the milliseconds, and sets two bits of the version: 4 becomes 7.
_UUID7 = """
CREATE FUNCTION pg_temp.uuid7(at timestamptz) RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        PLACING substring(int8send(floor(extract(epoch FROM at) * 1000)::bigint) FROM 3)
        FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
$$
"""
_LAST_NUMBER = """
SELECT coalesce(max(substring(email FROM '^user([0-9]+)@example[.]com$')::bigint), 0) FROM users
"""
_NEW_USERS = """
CREATE TEMPORARY TABLE new_users ON COMMIT DROP AS
SELECT place, %(last)s + place AS number, registered, pg_temp.uuid7(registered) AS id
FROM generate_series(1, %(users)s) AS place,
    LATERAL (SELECT now() - interval '366 days' + place * (interval '1 day' / %(users)s)) AS t
        (registered)
"""
_USERS = """
INSERT INTO users (id, email, password_hash, created_at, updated_at)
SELECT id, 'user' || lpad(number::text, greatest(5, length(number::text)), '0') || '@example.com',
    %(password_hash)s, registered, registered
FROM new_users ORDER BY place
"""
# Users add tasks in turn, so a user's tasks lie far apart in the table, as in real use.
_TASKS = """
INSERT INTO tasks (id, user_id, title, description, status, created_at, updated_at)
SELECT pg_temp.uuid7(created), user_id,
    'Task ' || task || ' of user ' || number || ': prepare the report',
    substr(md5(number || '-' || task) || ' ' || md5(task || 'a' || number) || ' '
        || md5(task || 'b' || number) || ' ' || md5(task || 'c' || number) || ' '
        || md5(task || 'd' || number) || ' ' || md5(task || 'e' || number) || ' '
        || md5(task || 'f' || number), 1, 200),
    CASE WHEN (number + task) %% 3 = 0 THEN 'completed' ELSE 'pending' END,
    created, created
FROM (
    SELECT id AS user_id, number, task, now() - interval '365 days'
        + ((task - 1) * %(users)s + place - 1) * (interval '365 days' / (%(users)s * %(tasks)s))
        AS created
    FROM generate_series(1, %(tasks)s) AS task, new_users
    ORDER BY task, place
) AS all_of_them
"""


def load(url: str, password_hash: str, *, users: int, tasks: int, add: bool) -> None:
    """Insert users with tasks in one transaction, and update the statistics.

    Raises:
        CliError: the database has users, and `add` is false.
    """
    values = {"users": users, "tasks": tasks, "password_hash": password_hash}
    with closing(psycopg2.connect(url)) as connection:
        with connection, connection.cursor() as cursor:
            count = _number(cursor, "SELECT count(*) FROM users")
            if count and not add:
                raise CliError(
                    f"The database holds {count:,} users, and nothing was loaded. Use --add to "
                    "put new users beside them, or use an empty data folder or database."
                )
            cursor.execute(_UUID7)
            values["last"] = _number(cursor, _LAST_NUMBER)
            for statement in (_NEW_USERS, _USERS, _TASKS):
                cursor.execute(statement, values)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE users, tasks, sessions")


def _number(cursor: Any, query: str) -> int:
    cursor.execute(query)
    return int(cursor.fetchone()[0])


async def _run(settings: Settings, *, users: int, tasks: int, add: bool) -> float:
    """Load into the database of the settings, and return the seconds taken."""
    async with database_server(settings, share=True) as url:
        await require_prepared_database(settings, url)
        started = perf_counter()
        hasher = PasswordHasher(settings.bcrypt_rounds)
        password_hash = await hasher.hash(PASSWORD)
        hasher.close()
        await asyncio.to_thread(load, url, password_hash, users=users, tasks=tasks, add=add)
        return perf_counter() - started


@click.command(
    help="Load users with tasks into the database that TASKAPP_DATABASE_URL, or the data folder "
    f'that TASKAPP_DATA_DIR names. Every password is "{PASSWORD}".'
)
@click.option("--users", type=click.IntRange(1), default=10_000, show_default=True)
@click.option("--tasks", type=click.IntRange(1), default=100, show_default=True, help="Per user.")
@click.option("--add", is_flag=True, help="Load even if the database has users.")
@report_errors
def main(*, users: int, tasks: int, add: bool) -> None:
    """Run the command line."""
    settings = read_settings()
    configure_logging(replace(settings, log_level="warning"))
    seconds = asyncio.run(_run(settings, users=users, tasks=tasks, add=add))
    click.echo(f"Loaded {users:,} users with {tasks:,} tasks each in {seconds:.1f} s.")


if __name__ == "__main__":
    main()
