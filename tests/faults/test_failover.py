"""The primary of two PostgreSQL is lost, and taskapp finds the standby that is promoted."""

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from taskapp.db.dsn import connect_once
from tests.faults.checker import assert_all_is_well
from tests.faults.ledger import writing
from tests.faults.own_postgres import OwnPostgres, own_postgres
from tests.support.database_fixtures import execute
from tests.support.server_process import new_data_folder, server_process, wait_until

ROLES = "SELECT sync_state FROM pg_stat_replication"


@contextmanager
def standby_of(primary: OwnPostgres) -> Iterator[OwnPostgres]:
    """Run a synchronous standby of a server."""
    with new_data_folder() as folder:
        standby = OwnPostgres(folder, primary)
        standby.start()
        try:
            execute(primary.url, "ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            execute(primary.url, "SELECT pg_reload_conf()")
            wait_until(lambda: execute(primary.url, ROLES) == [("sync",)])
            yield standby
        finally:
            standby.kill()


def address_of(*servers: OwnPostgres) -> str:
    folders = ",".join(quote(str(server.socket.parent), safe="") for server in servers)
    return f"postgresql://taskapp@/postgres?host={folders}"


def server_of(address: str) -> Path:
    with closing(connect_once(address, "test")) as connection:
        return Path(connection.info.host)


def test_when_the_primary_is_killed_the_promoted_standby_is_found_and_has_every_acknowledged_write(
    folder: Path, chance: random.Random
) -> None:
    with own_postgres() as primary, standby_of(primary) as standby:
        # The standby comes first: each new connection has to pass it by.
        address = address_of(standby, primary)
        assert server_of(address) == primary.socket.parent
        assert server_of(f"{address}&target_session_attrs=any") == standby.socket.parent
        settings = {"TASKAPP_DATABASE_URL": address}
        with server_process(folder, settings=settings) as server:
            with writing(server.wait_until_ready().address, chance) as ledger:
                ledger.wait_for_writes()
                primary.kill()
                execute(standby.url, "ALTER SYSTEM RESET synchronous_standby_names")
                execute(standby.url, "SELECT pg_promote()")
                ledger.wait_for_writes()
            assert_all_is_well(ledger, standby.url)
            assert server.surprises() == []
