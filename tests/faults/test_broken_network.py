"""The network between taskapp and PostgreSQL cuts, delays, drips and swallows data."""

import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import pytest

from tests.faults.checker import assert_all_is_well
from tests.faults.ledger import Outcome, writing
from tests.faults.outage import TIMEOUT, Watchers
from tests.faults.own_postgres import own_postgres
from tests.faults.proxy import Proxy
from tests.support.server_process import (
    PASSWORD,
    Client,
    NoResponse,
    ServerProcess,
    new_data_folder,
    server_process,
    wait_until,
)

FORGETS_AFTER = 3.0  # seconds
SWALLOWS_FOR = 6.0  # seconds, longer than the timeout of a statement
MOST_CUTS = 1000
WITHIN = 10.0  # seconds, after which Docker kills


@dataclass
class Site:
    """A taskapp, the bad network to its PostgreSQL, and a good connection to it."""

    server: ServerProcess
    network: Proxy
    url: str


@pytest.fixture(scope="module")
def whole_site() -> Iterator[Site]:
    """Share one site between all tests, so that leftovers of one fault affect the next."""
    with (
        new_data_folder() as folder,
        own_postgres() as postgres,
        Proxy(postgres.socket) as network,
        server_process(folder, settings={"TASKAPP_DATABASE_URL": network.url}) as server,
    ):
        yield Site(server.wait_until_ready(), network, postgres.url)
        assert server.surprises() == []


@pytest.fixture
def site(whole_site: Site) -> Iterator[Site]:
    """Yield the site; heal the network afterwards, also after a failure."""
    yield whole_site
    whole_site.network.heal()


def test_connections_that_are_cut_take_no_write_with_them(
    site: Site, chance: random.Random
) -> None:
    with writing(site.server.address, chance) as ledger:
        cuts = 0
        while cuts < 20 or not ledger.outcomes[Outcome.UNKNOWN]:
            time.sleep(chance.uniform(0, 0.1))
            site.network.cut()
            cuts += 1
            assert cuts < MOST_CUTS, "no cut came between a write and its reply"
        ledger.wait_for_writes()
    assert ledger.longest_response < TIMEOUT
    assert_all_is_well(ledger, site.url)


def test_a_write_whose_reply_is_lost_is_called_unknown_and_made_once(
    site: Site, chance: random.Random
) -> None:
    with writing(site.server.address, chance) as ledger:
        for _ in range(5):
            site.network.cuts_replies = True
            ledger.wait_for(Outcome.UNKNOWN, chance.randint(1, 10))
            site.network.cuts_replies = False
            ledger.wait_for_writes()
    assert_all_is_well(ledger, site.url)


def test_a_database_that_is_gone_is_missed_in_words_and_found_again(
    site: Site, chance: random.Random
) -> None:
    with writing(site.server.address, chance) as ledger:
        watchers = Watchers(site.server.address)
        site.network.refuses = True
        site.network.cut()
        watchers.assert_told_of_outage()
        site.network.refuses = False
        watchers.assert_first_requests_succeed()
        ledger.wait_for_writes()
    assert_all_is_well(ledger, site.url)


def test_connections_that_the_network_forgot_are_noticed_before_a_request_is_lost(
    site: Site, chance: random.Random
) -> None:
    def write(number: int) -> int:
        with Client(site.server.address) as client:
            client.token = alice.token
            return client.send("POST", "/api/tasks", {"title": f"task {number}"}).status

    with (
        writing(site.server.address, chance) as ledger,  # opens every connection of the pool
        Client(site.server.address) as alice,
    ):
        alice.sign_up("alice-of-the-forgetful-network@example.com")
        ledger.wait_for_writes(30)
    site.network.forgets_after = FORGETS_AFTER
    time.sleep(FORGETS_AFTER + 1)
    with ThreadPoolExecutor(8) as at_once:
        assert [*at_once.map(write, range(8))] == [201] * 8


def test_a_slow_network_slows_and_refuses_nothing(site: Site, chance: random.Random) -> None:
    with writing(site.server.address, chance) as ledger:
        site.network.delay = 0.075
        ledger.wait_for_writes(30)
        site.network.heal()
        site.network.piece = 16
        ledger.wait_for_writes(30)
        site.network.heal()
    assert {*ledger.outcomes} == {Outcome.ACKNOWLEDGED}
    assert ledger.longest_response < TIMEOUT
    assert_all_is_well(ledger, site.url)


def test_requests_get_a_response_in_time_while_the_network_swallows_everything(
    site: Site, chance: random.Random
) -> None:
    with writing(site.server.address, chance) as ledger:
        watchers = Watchers(site.server.address)
        site.network.is_black_hole = True
        heals_at = time.monotonic() + SWALLOWS_FOR
        watchers.assert_told_of_outage()
        time.sleep(max(0.0, heals_at - time.monotonic()))
        site.network.is_black_hole = False
        watchers.assert_first_requests_succeed()
        ledger.wait_for_writes()
    assert ledger.outcomes[Outcome.UNKNOWN] > 0
    assert ledger.longest_response < TIMEOUT
    assert_all_is_well(ledger, site.url)


def test_a_stop_ends_in_the_ten_seconds_of_docker_while_the_network_swallows_everything(
    site: Site,
) -> None:
    def log_in(client: Client) -> None:
        with suppress(NoResponse):  # such as of a request that was cut
            fields = {"email": "alice@example.com", "password": PASSWORD}
            client.send("POST", "/api/auth/login", fields)

    settings = {"TASKAPP_DATABASE_URL": site.network.url}
    with (
        new_data_folder() as folder,
        server_process(folder, settings=settings) as server,
        ThreadPoolExecutor(12) as crowd,
    ):
        server.wait_until_ready()
        site.network.is_black_hole = True
        asked = [crowd.submit(log_in, server.client()) for _ in range(12)]
        wait_until(lambda: all(future.running() or future.done() for future in asked))
        server.process.send_signal(signal.SIGTERM)
        assert server.idle_until_end() < WITHIN
        assert server.process.wait() == 0
        assert server.log[-1]["event"] == "server.stopped"
