"""Point 8: logins at a steady rate, and the requests of others while one client attacks."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from threading import Event

from bench.connection import Connection, write_request
from bench.load import PASSWORD
from bench.processes import ALL_CORES
from bench.scenarios import LIST
from bench.targets import Taskapp
from bench.verdicts import Verdict, compared, limited
from taskapp.cli.common import CliError

_RATE = 4  # logins a second
_ATTACKERS = 32  # connections that log in without pause
_LOGIN = write_request(
    "POST", "/api/auth/login", body={"email": "user00001@example.com", "password": PASSWORD}
)
_Outcome = tuple[int, float]  # the status of a response, and its seconds


def measure_logins(taskapp: Taskapp, seconds: int) -> list[Verdict]:
    """Measure logins, and a list beside a flood of logins, with all on all cores."""
    with taskapp.running(0, cores=ALL_CORES, database_cores=ALL_CORES) as target:
        logins = _log_in_steadily(target.port, seconds)
        alone = _list(target.port, seconds)
        with _flood(target.port):
            beside = _list(target.port, seconds)
    steady, attacked = f"{_RATE} logins a second", f"list, while one client logs in on {_ATTACKERS}"
    base = ("undisturbed", _p95(alone) * 1000)
    return [
        limited(8, f"{steady}, p95", _p95(logins), "at most", 1.0, "s"),
        limited(8, f"{steady}, errors", _errors(logins), "at most", 0, "requests"),
        compared(8, f"{attacked}, p95", _p95(beside) * 1000, "at most", 3.0, base, "ms"),
        limited(8, f"{attacked}, errors", _errors(beside), "at most", 0, "requests"),
    ]


def _log_in_steadily(port: int, seconds: int) -> list[_Outcome]:
    with ThreadPoolExecutor(_RATE * seconds) as pool:
        logins = []
        for _ in range(_RATE * seconds):
            logins.append(pool.submit(_log_in, port))
            time.sleep(1 / _RATE)
        return [login.result() for login in logins]


def _log_in(port: int) -> _Outcome:
    with closing(Connection(port)) as connection:
        return _ask(connection, _LOGIN)


def _list(port: int, seconds: int) -> list[_Outcome]:
    """Request a list again and again, from one connection."""
    with closing(Connection(port)) as connection:
        token = json.loads(connection.ask(_LOGIN)[1])["token"]
        request = write_request(LIST.method, LIST.path, token)
        until = time.perf_counter() + seconds
        outcomes = []
        while time.perf_counter() < until:
            outcomes.append(_ask(connection, request))
        return outcomes


@contextmanager
def _flood(port: int) -> Iterator[None]:
    """Log in without pause on many connections while the block runs."""
    is_over = Event()

    def insist() -> None:
        with closing(Connection(port)) as connection:
            while not is_over.is_set() and _ask(connection, _LOGIN)[0]:
                pass

    with ThreadPoolExecutor(_ATTACKERS) as pool:
        attackers = [pool.submit(insist) for _ in range(_ATTACKERS)]
        try:
            yield
        finally:
            is_over.set()
        for attacker in attackers:
            attacker.result()


def _ask(connection: Connection, request: bytes) -> _Outcome:
    started = time.perf_counter()
    status = 0
    with suppress(CliError):  # the server closes a connection whose response takes a minute
        status, _ = connection.ask(request)
    return status, time.perf_counter() - started


def _p95(outcomes: list[_Outcome]) -> float:
    return sorted(seconds for _, seconds in outcomes)[int(0.95 * len(outcomes))]


def _errors(outcomes: list[_Outcome]) -> int:
    return sum(status != 200 for status, _ in outcomes)
