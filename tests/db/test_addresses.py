"""Every address that libpq takes leads the pool to the server, and a stop ends the search."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import psycopg2
import pytest
from sqlalchemy import func, select, text

from taskapp.core.errors import Unavailable
from taskapp.db.database import Database
from taskapp.db.dsn import connect_once, split_password
from taskapp.db.migrations import HEAD, read_revision
from taskapp.db.statements import Statement
from taskapp.observability.metrics import Metrics
from tests.faults.proxy import Proxy
from tests.support.database_fixtures import execute, new_database, open_database
from tests.support.server_process import (
    LONG_ENOUGH,
    new_data_folder,
    reserved_port,
    server_process,
    wait_until,
)

SESSION = Statement(
    "session",
    select(
        func.current_setting("search_path"),
        func.current_setting("TimeZone"),
        func.current_setting("DateStyle"),
        func.current_setting("statement_timeout"),
        func.current_setting("client_min_messages"),
        func.current_setting("client_encoding"),
        func.current_setting("application_name"),
    ),
)
OURS = ("UTC", "ISO, MDY", "3500ms", "warning", "UTF8", "taskapp")
DEFAULT_PATH = '"$user", public'
ONE = Statement("one", select(text("1")))
ADD_USER = Statement(
    "add_user",
    text(
        "INSERT INTO users (id, email, password_hash) SELECT gen_random_uuid(), :email, '-'"
        " WHERE cast(:email AS text) <> '' RETURNING email"
    ),
)


@dataclass
class Network:
    """Ports on loopback, and the database that the open ones lead to."""

    open: Proxy
    closed: int
    silent: int  # accepts, and never says a word
    target: Path  # socket
    user: str
    database: str


@pytest.fixture(scope="module")
def network(database_url: str) -> Iterator[Network]:
    parts = urlsplit(database_url)
    [folder] = parse_qs(parts.query)["host"]
    target = Path(folder, f".s.PGSQL.{parse_qs(parts.query).get('port', ['5432'])[0]}")
    with (
        Proxy(target) as proxy,
        reserved_port() as closed,
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        yield Network(
            *(proxy, closed, silent.getsockname()[1], target),
            user=parts.username or "",
            database=parts.path.removeprefix("/"),
        )


ADDRESSES = {
    "one server": "postgresql://{user}@127.0.0.1:{open}/{database}",
    "the other scheme": "postgres://{user}@127.0.0.1:{open}/{database}",
    "keywords": "host=127.0.0.1 port={open} user={user} dbname={database}",
    "keywords in quotes": "host = '127.0.0.1' port='{open}' user = '{user}' dbname='{database}'",
    "all in the query": "postgresql:///?host=127.0.0.1&port={open}&user={user}&dbname={database}",
    "percent-encoded": "postgresql://{encoded_user}@%31%327.0.0.1:{open}/{database}",
    "a Unix socket": "postgresql://{user}@{quoted_socket}:{socket_port}/{database}",
    "a Unix socket in the query": "postgresql://{user}@/{database}?host={quoted_socket}&port={socket_port}",
    "hostaddr alone": "hostaddr=127.0.0.1 port={open} user={user} dbname={database}",
    "hostaddr besides a name": (
        "host=database.invalid hostaddr=127.0.0.1 port={open} user={user} dbname={database}"
    ),
    "a host refuses": "postgresql://{user}@127.0.0.1:{closed},127.0.0.1:{open}/{database}",
    "a host is silent": (
        "postgresql://{user}@127.0.0.1:{silent},127.0.0.1:{open}/{database}?connect_timeout=1"
    ),
    "a name is unknown": "postgresql://{user}@database.invalid:{open},127.0.0.1:{open}/{database}",
    "a socket is missing": "postgresql://{user}@%2Fnonexistent,127.0.0.1:{open}/{database}",
    "an IPv6 address refuses": "postgresql://{user}@[::1]:{closed},127.0.0.1:{open}/{database}",
    "one port for all": "host=127.0.0.1,127.0.0.1 port={open} user={user} dbname={database}",
    "a name with several addresses": "postgresql://{user}@localhost:{open}/{database}",
    "any order": (
        "postgresql://{user}@127.0.0.1:{closed},127.0.0.1:{open}/{database}"
        "?load_balance_hosts=random"
    ),
    "a service": "service=tasks",
    "a service in a URL": "postgresql://?service=tasks",
    "options of the pool itself": (
        "postgresql://{user}@127.0.0.1:{open}/{database}"
        "?options=-c%20timezone%3DAsia%2FTokyo%20-cstatement_timeout%3D0"
    ),
    "a name of its own": ("postgresql://{user}@127.0.0.1:{open}/{database}?application_name=mine"),
    "another encoding": "postgresql://{user}@127.0.0.1:{open}/{database}?client_encoding=LATIN1",
    "keepalives": (
        "postgresql://{user}@127.0.0.1:{open}/{database}?keepalives=0&tcp_user_timeout=1000"
    ),
} | {
    f"{name}={value}": f"postgresql://{{user}}@127.0.0.1:{{open}}/{{database}}?{name}={value}"
    for name, values in {
        "sslmode": ("disable", "allow", "prefer"),
        "gssencmode": ("disable", "prefer"),
        "channel_binding": ("disable", "prefer"),
        "target_session_attrs": ("any", "read-write", "primary", "prefer-standby"),
        "load_balance_hosts": ("disable", "random"),
        "sslnegotiation": ("postgres",),
        "require_auth": ("none",),
        "connect_timeout": ("0", "1", "30"),
    }.items()
    for value in values
}


def fill_in(address: str, network: Network, **more: object) -> str:
    return address.format(
        user=network.user,
        encoded_user="".join(f"%{ord(letter):x}" for letter in network.user),
        database=network.database,
        open=network.open.port,
        closed=network.closed,
        silent=network.silent,
        quoted_socket=quote(str(network.target.parent), safe=""),
        socket_port=network.target.name.rpartition(".")[2],
        **more,
    )


@pytest.fixture(autouse=True)
def _service_file(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    services = tmp_path / "services"
    services.write_text(
        fill_in("[tasks]\nhost=127.0.0.1\nport={open}\nuser={user}\ndbname={database}\n", network)
    )
    monkeypatch.setenv("PGSERVICEFILE", str(services))


@pytest.mark.parametrize("name", ADDRESSES)
def test_every_address_that_libpq_takes_leads_to_the_server(
    name: str, network: Network, empty_database: str
) -> None:
    url = fill_in(ADDRESSES[name], network)

    async def scenario() -> None:
        async with open_database(url, 2) as database:
            reads = (database.fetch_one(SESSION) for _ in range(2))
            assert await asyncio.gather(*reads) == [(DEFAULT_PATH, *OURS)] * 2

    asyncio.run(scenario())
    found = read_revision(url)
    assert found
    assert found.number == HEAD


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://{user}@127.0.0.1:{closed}/{database}",
        "postgresql://{user}@127.0.0.1:{silent},127.0.0.1:{closed}/{database}?connect_timeout=1",
        "postgresql://{user}@127.0.0.1:{open}/{database}?target_session_attrs=standby",
        "postgresql://{user}@127.0.0.1:{open}/{database}?sslmode=require",
        "postgresql://{user}@127.0.0.1:{open}/{database}?require_auth=scram-sha-256",
        "service=unknown",
    ],
)
def test_an_address_that_leads_nowhere_is_refused_in_words(address: str, network: Network) -> None:
    async def scenario() -> None:
        with pytest.raises(Unavailable, match="The database cannot be reached: "):
            await Database(1, Metrics()).open(fill_in(address, network))

    asyncio.run(scenario())


def options_of(*settings: str) -> str:
    return quote(" ".join(f"-c {setting}" for setting in settings), safe="")


@pytest.mark.parametrize("where", ["the address", "the environment", "a service"])
def test_options_of_an_address_are_kept(
    where: str, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fill_in("postgresql://{user}@127.0.0.1:{open}/{database}", network)
    if where == "the address":
        url += f"?options={options_of('search_path=tasks', 'lock_timeout=77')}"
    elif where == "the environment":
        monkeypatch.setenv("PGOPTIONS", "-c search_path=tasks -c lock_timeout=77")
    else:
        with (tmp_path / "services").open("a") as services:
            services.write("options=-c search_path=tasks -c lock_timeout=77\n")
        url = "service=tasks"
    lock_timeout = Statement("lock_timeout", select(func.current_setting("lock_timeout")))

    async def scenario() -> None:
        async with open_database(url, 1) as database:
            assert await database.fetch_one(SESSION) == ("tasks", *OURS)
            assert await database.fetch_value(lock_timeout) == "77ms"

    asyncio.run(scenario())


@pytest.mark.parametrize("where", ["the address", "the environment"])
def test_the_authorities_of_the_machine_are_named_as_every_libpq_knows_them(
    where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The wheel's libpq looks for them on the machine where it was built."""
    authorities = tmp_path / "authorities.pem"
    authorities.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities))
    url = "postgresql://db.example.com/tasks"
    if where == "the address":
        url += "?sslrootcert=system"
    else:
        monkeypatch.setenv("PGSSLROOTCERT", "system")
    address, _ = split_password(url)
    parameters = psycopg2.extensions.parse_dsn(address)
    assert (parameters["sslmode"], parameters["sslrootcert"]) == ("verify-full", str(authorities))


def test_what_the_database_is_set_to_gives_way_to_what_the_pool_needs(database_url: str) -> None:
    with new_database(database_url) as url:
        for setting in (
            "statement_timeout = '1h'",
            "timezone = 'Asia/Tokyo'",
            "datestyle = 'German'",
            "client_encoding = 'LATIN1'",
            "client_min_messages = 'debug5'",
        ):
            database = urlsplit(url).path.removeprefix("/")
            execute(url, f"ALTER DATABASE {database} SET {setting}")

        async def scenario() -> None:
            async with open_database(url, 1) as database:
                assert await database.fetch_one(SESSION) == (DEFAULT_PATH, *OURS)

        asyncio.run(scenario())


# What a user, a database or an address may say of a session, besides what the pool needs.
SETTINGS = (
    "client_min_messages=debug5",
    "default_transaction_isolation=serializable",
    "standard_conforming_strings=off",
    "plan_cache_mode=force_generic_plan",
    "transform_null_equals=on",
    "extra_float_digits=-15",
    "bytea_output=escape",
    "row_security=off",
)


@pytest.mark.parametrize("setting", SETTINGS)
def test_changes_are_made_and_read_whatever_is_set_for_a_session(
    setting: str, empty_database: str
) -> None:
    url = f"{empty_database}&options={options_of(setting)}"
    email = "back\\slash'quote\u00fc@example.com"

    async def scenario() -> None:
        async with open_database(url, 1) as database:
            assert await database.fetch_value(ADD_USER, email=email) == email
            assert await database.fetch_value(ADD_USER, email="") is None  # even that responds
            assert await database.confirms_writes()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("more", "idle", "user_timeout"), [("", 30, 60000), ("?keepalives_idle=7", 7, 60000)]
)
def test_a_connection_sends_something_before_routers_forget_it(
    more: str, idle: int, user_timeout: int, network: Network
) -> None:
    url = fill_in("postgresql://{user}@127.0.0.1:{open}/{database}", network) + more
    connection = connect_once(url, "test")
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == idle
        assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == user_timeout
    connection.close()


# Failover


@contextmanager
def first_of_two(network: Network) -> Iterator[tuple[str, Proxy]]:
    """Yield an address of two servers, of which the first is this one."""
    address = "postgresql://{user}@127.0.0.1:{first},127.0.0.1:{open}/{database}?connect_timeout=1"
    with Proxy(network.target) as first:
        yield fill_in(address, network, first=first.port), first


async def fill(database: Database) -> None:
    reads = (database.fetch_one(ONE) for _ in range(3))
    assert await asyncio.gather(*reads) == [(1,)] * 3


def test_when_a_server_goes_the_next_request_reaches_the_other(network: Network) -> None:
    async def scenario() -> None:
        with ExitStack() as the_end:
            url, _ = the_end.enter_context(first_of_two(network))
            async with open_database(url, 3) as database:
                await fill(database)
                the_end.close()
                for _ in range(10):
                    await asyncio.sleep(0.001)  # turns enough to hear of it
                await fill(database)

    asyncio.run(scenario())


def test_when_a_server_falls_silent_the_other_is_found_after_the_timeout(
    network: Network,
) -> None:
    async def scenario() -> None:
        with first_of_two(network) as (url, first):
            async with open_database(url, 3) as database:
                await fill(database)
                first.is_black_hole = True
                async with asyncio.timeout(LONG_ENOUGH):
                    while True:
                        with suppress(Unavailable):
                            await fill(database)
                            break

    asyncio.run(scenario())


# The stop


@contextmanager
def starting(url: str) -> Iterator[Any]:
    with (
        new_data_folder() as folder,
        server_process(folder, settings={"TASKAPP_DATABASE_URL": url}) as server,
    ):
        yield server


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://{user}@127.0.0.1:{closed},127.0.0.1:{closed}/{database}",
        "postgresql://{user}@127.0.0.1:{silent},127.0.0.1:{closed}/{database}",
        "host=127.0.0.1,127.0.0.1,127.0.0.1,127.0.0.1 port={silent} user={user}",
        "postgresql://{user}@127.0.0.1:{silent}/{database}?connect_timeout=0",
    ],
    ids=["refused", "silent and refused", "silent", "silent for ever"],
)
def test_a_stop_ends_the_search_for_a_server(address: str, network: Network) -> None:
    with starting(fill_in(address, network)) as server:
        with server.client() as client:
            wait_until(lambda: client.status("/api/health/live") == 200)
        assert server.end() == 0
        assert server.log[-1]["event"] == "server.stopped"


def test_a_stop_ends_the_wait_for_a_lock_of_a_migration(network: Network) -> None:
    url = fill_in("postgresql://{user}@127.0.0.1:{open}/{database}", network)
    with connect_locked(url), starting(url) as server:
        waiting = (
            "SELECT 1 FROM pg_stat_activity"
            " WHERE application_name = 'taskapp migrations' AND wait_event_type = 'Lock'"
        )
        wait_until(lambda: execute(url, waiting) != [])
        assert server.end() == 0


def test_a_stop_ends_a_backup_whose_server_falls_silent(
    network: Network, database_url: str
) -> None:
    dumping = (
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'pg_dump'"
        " AND wait_event_type = 'Lock' AND datname = current_database()"
    )
    with new_database(database_url) as url, Proxy(network.target) as proxy:
        address = f"postgresql://{network.user}@127.0.0.1:{proxy.port}{urlsplit(url).path}"
        settings = {"TASKAPP_DATABASE_URL": address, "TASKAPP_BACKUP_EVERY": "1s"}
        with new_data_folder() as folder, server_process(folder, settings=settings) as server:
            with server.wait_until_ready().client() as alice:
                alice.register("alice@example.com")
            with connect_locked(url):
                wait_until(lambda: execute(url, dumping) != [])
                proxy.is_black_hole = True
                assert server.end() == 0
                assert server.log[-1]["event"] == "server.stopped", str(server.log[-1])
            proxy.heal()


def test_tables_that_the_user_of_the_process_does_not_find_are_waited_for_in_words(
    network: Network, empty_database: str
) -> None:
    owner = fill_in("postgresql://{user}@127.0.0.1:{open}/{database}", network)
    settings = {
        "TASKAPP_DATABASE_URL": f"{owner}?options=-csearch_path%3Dnowhere",
        "TASKAPP_MIGRATION_DATABASE_URL": owner,
    }
    with new_data_folder() as folder, server_process(folder, settings=settings) as server:
        with server.client() as client:
            wait_until(lambda: "database.waiting" in server.log_text)
            assert client.status("/api/health") == 503, server.log_text
        [waiting, *_] = [line for line in server.log if line["event"] == "database.waiting"]
        assert waiting["reason"] == 'search_path (nowhere) leads to no table "tasks"'
        assert server.end() == 0


@contextmanager
def connect_locked(url: str) -> Iterator[None]:
    """Keep everybody from reading the revision of the database."""
    connection = psycopg2.connect(url)
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE alembic_version")
    yield
    connection.close()
