"""The fixtures of all tests.

* `database_url`: a real PostgreSQL, started once and migrated; `empty_database` empties it.
* `settings`, `services`, `app`: a real application on it, made anew for each test;
  pytest-tornado serves `app` over real HTTP at `base_url`.
* `api`: a client of the JSON API that nobody has logged in; `alice` owns, `bob` is the stranger.
"""

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import psycopg2
import pytest
from jinja2 import Environment

from handlers.routes import make_application
from handlers.web.application import Application
from handlers.web.http_server import LimitedHTTPServer
from handlers.web_server import make_server
from taskapp.config.settings import Settings, load_settings
from taskapp.db.migrations import migrate
from taskapp.postgres.server import EmbeddedPostgres
from taskapp.services import Services, make_services
from tests.support.clients import ApiClient
from tests.support.compiled_templates import CompiledTemplates
from tests.support.database_fixtures import new_database
from tests.support.environment import CHEAP_AND_UNLIMITED, MACHINE, MEASURED, POSTGRESQL, SECRET_KEY
from tests.support.logging_state import logging_of_its_own
from tests.support.server_process import LONG_ENOUGH, new_data_folder

hypothesis.settings.register_profile("unhurried", deadline=None)  # for busy machines
hypothesis.settings.load_profile("unhurried")

PASSWORD = "SecurePass123!"
PACKAGES_OF_WHAT_RUNS_ELSEWHERE = ("tests.docs.", "tests.faults.", "tests.rules.")
TESTS_OF_WHAT_RUNS_ELSEWHERE = {
    "tests.browser.test_accessibility",
    "tests.browser.test_account_stories",
    "tests.browser.test_attacks_in_browser",
    "tests.bench.test_bench",
    "tests.bench.test_compare_peers",
    "tests.browser.test_html",
    "tests.browser.test_keyboard",
    "tests.browser.test_looks",
    "tests.browser.test_nothing_lost",
    "tests.browser.test_other_browsers",
    "tests.web.test_bounded_work",
    "tests.web.test_rejected_requests",
    "tests.browser.test_script",
    "tests.browser.test_stories",
    "tests.browser.test_weights",
}
TRACED_VALUES = 3  # of a parameter of a test that sends requests
TESTS_OF_PROCESSES = {
    "test_commands",
    "test_health",
    "test_maintenance",
    "test_privileges",
    "test_progress",
    "test_server",
    "test_standard_streams",
    "test_unusual_machines",
}
# Modules of more than 40 seconds, the longest first.
LONGEST = (
    "tests/browser/test_accessibility.py",
    "tests/runtime/test_make_run.py",
    "tests/backups/test_postgresql_upgrade.py",
    "tests/browser/test_html.py",
    "tests/browser/test_second_clicks.py",
    "tests/bench/test_compare_peers.py",
    "tests/backups/test_disk_of_backups.py",
    "tests/backups/test_restore.py",
    "tests/backups/test_catalog.py",
    "tests/db/test_addresses.py",
    "tests/runtime/test_server.py",
    "tests/web/test_bounded_work.py",
)
TEST_SETTINGS = {
    **CHEAP_AND_UNLIMITED,
    "TASKAPP_ACCOUNT_LOGIN_LIMIT": "1000000/minute",
    "TASKAPP_SECRET_KEY": SECRET_KEY,
    "TASKAPP_LOG_LEVEL": "error",
    **POSTGRESQL,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest modules first: else one worker has one to run when the others are done."""
    places = {path: place for place, path in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def no_event_loop_by_itself() -> None:
    """Keep pytest-tornado's first loop from creating another one, which would never be closed."""
    asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def logging_is_that_of_a_new_process() -> Iterator[None]:
    """Keep what a command or a server configures in one test from the next ones."""
    with logging_of_its_own():
        yield


@pytest.fixture(scope="session", autouse=True)
def passwords_are_hashed_at_once() -> Iterator[None]:
    """Hash passwords at normal priority, so that logins do not wait for other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("taskapp.auth.passwords.NICENESS", 0)
        yield


@pytest.fixture(scope="session", autouse=True)
def templates_are_compiled_once() -> Iterator[None]:
    """Share compiled templates, because compiling is most of the cost of a page in a test."""
    with pytest.MonkeyPatch.context() as patch:
        environment = partial(Environment, bytecode_cache=CompiledTemplates())
        patch.setattr("handlers.rendering.templates.Environment", environment)
        yield


@pytest.fixture(scope="module", autouse=True)
def processes_are_measured_where_they_are_tested(request: pytest.FixtureRequest) -> Iterator[None]:
    """Measure coverage only where processes are tested: it adds a third of a second to a start."""
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__.rpartition(".")[2] not in TESTS_OF_PROCESSES:
            patch.delenv(MEASURED, raising=False)
        yield


@contextmanager
def paused_tracing(config: pytest.Config) -> Iterator[None]:
    """Pause the coverage of this process during the block, if it is measured."""
    plugin = config.pluginmanager.getplugin("_cov")
    controller = plugin and plugin.cov_controller  # none without --cov
    if controller and controller.started:
        controller.pause()
        yield
        controller.resume()
    else:
        yield


@pytest.fixture(scope="module", autouse=True)
def what_runs_elsewhere_is_not_traced(request: pytest.FixtureRequest) -> Iterator[None]:
    """Spare tests whose taskapp runs in another process the tracing of themselves."""
    name = request.module.__name__
    if name.startswith(PACKAGES_OF_WHAT_RUNS_ELSEWHERE) or name in TESTS_OF_WHAT_RUNS_ELSEWHERE:
        with paused_tracing(request.config):
            yield
    else:
        yield


def is_repetition(item: Any) -> bool:
    """Return whether a test was run with other values of a parameter before, and often enough."""
    indices = item.callspec.indices.values() if hasattr(item, "callspec") else []
    return max(indices, default=0) >= TRACED_VALUES


@pytest.fixture(autouse=True)
def repetitions_are_not_traced(request: pytest.FixtureRequest) -> Iterator[None]:
    """Spare repetitions of the same requests the tracing, which doubles the time of a request."""
    item = request.node
    is_repeated = "app" in request.fixturenames and is_repetition(item)
    if is_repeated or hypothesis.is_hypothesis_test(item.obj) or item.get_closest_marker("fuzz"):
        with paused_tracing(request.config):
            yield
    else:
        yield


@pytest.fixture(autouse=True)
def repeated_processes_are_not_measured(request: pytest.FixtureRequest) -> Iterator[None]:
    """Spare processes of repetitions the measurement, as those of other modules."""
    with pytest.MonkeyPatch.context() as patch:
        if is_repetition(request.node):
            patch.delenv(MEASURED, raising=False)
        yield


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """Yield a folder whose path leaves room for a Unix socket's name."""
    folder = Path(tempfile.mkdtemp(prefix="ta-", dir="/tmp"))  # a socket path has 107 bytes
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def new_folder() -> Iterator[Path]:
    """Yield the path of a data folder that is not there yet."""
    with new_data_folder() as folder:
        yield folder


@pytest.fixture(scope="session", autouse=True)
def named_server() -> str:
    """Return the server that `make test-postgres` names, and hide it from the settings."""
    return os.environ.pop("TASKAPP_TEST_DATABASE_URL", "")


@pytest.fixture(scope="session")
def database_url(short_folder: Path, named_server: str) -> Iterator[str]:
    """Yield the URL of a migrated database for all tests of this process."""
    if named_server:
        (short_folder / "data").mkdir()
        with new_database(named_server) as url:
            with ThreadPoolExecutor() as elsewhere:  # else the first test loses its loop
                elsewhere.submit(asyncio.run, migrate(url)).result()
            yield url
        return
    yield from embedded_database(short_folder)


def embedded_database(short_folder: Path) -> Iterator[str]:
    """Run the PostgreSQL inside, on an event loop and a thread of its own."""
    bin_folder = Path(MACHINE) if MACHINE else None
    postgres = EmbeddedPostgres(
        short_folder / "data",
        bin_folder=bin_folder,
        extra_settings=lambda _: {"fsync": "off"},  # what is in it is not needed after a crash
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(LONG_ENOUGH)

    run(postgres.start())
    run(migrate(postgres.url))
    yield postgres.url
    run(postgres.stop())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def empty_database(database_url: str) -> str:
    """Empty all tables."""
    connection = psycopg2.connect(database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM users"
        )  # and their rows, by cascade; TRUNCATE would create new files
    connection.close()
    return database_url


@pytest.fixture
def setting_changes() -> dict[str, str]:
    """Return the settings that a test module or a parameter changes; override this fixture."""
    return {}


@pytest.fixture
def settings(empty_database: str, short_folder: Path, setting_changes: dict[str, str]) -> Settings:
    """Return the settings of a test: those above with its changes."""
    return load_settings(
        TEST_SETTINGS
        | {"TASKAPP_DATABASE_URL": empty_database, "TASKAPP_DATA_DIR": str(short_folder / "data")}
        | setting_changes
    )


@pytest.fixture
def services(settings: Settings, io_loop: Any) -> Iterator[Services]:
    """Yield all parts, with the database open."""
    parts = make_services(settings)
    io_loop.run_sync(lambda: parts.database.open(settings.database_url))
    yield parts
    io_loop.run_sync(parts.database.close)
    parts.passwords.close()


@pytest.fixture
def app(services: Services, io_loop: Any) -> Iterator[Application]:
    """Yield the application that pytest-tornado serves."""
    application = make_application(services)
    application.state = "ready"
    yield application
    assert io_loop.run_sync(lambda: application.drain(LONG_ENOUGH))


@pytest.fixture
def http_server(app: Application, io_loop: Any, _unused_port: Any) -> Iterator[LimitedHTTPServer]:
    """Serve `app` with the server of taskapp; the fixture of pytest-tornado has Tornado's."""
    server = make_server(app)
    server.add_sockets([_unused_port[0]])
    yield server
    server.stop()
    io_loop.run_sync(server.close_all_connections)


@pytest.fixture
def api(http_client: Any, base_url: str) -> ApiClient:
    """Return a client of the API without a token."""
    return ApiClient(http_client, base_url)


@pytest.fixture
def alice(api: ApiClient, io_loop: Any) -> ApiClient:
    """Return the client of Alice, who owns."""
    client: ApiClient = io_loop.run_sync(lambda: api.sign_up("alice@example.com", PASSWORD))
    return client


@pytest.fixture
def bob(api: ApiClient, io_loop: Any) -> ApiClient:
    """Return the client of Bob, the stranger."""
    client: ApiClient = io_loop.run_sync(lambda: api.sign_up("bob@example.com", PASSWORD))
    return client
