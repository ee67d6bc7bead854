"""Checks the limit of open files: whether it leaves room for the connections of browsers."""

from taskapp.config.settings import Settings
from taskapp.doctor.check_results import CheckResult, Level
from taskapp.runtime.listeners import (
    FEW_CONNECTIONS,
    MIN_CONNECTIONS,
    RAISE_THE_LIMIT,
    connections_that_fit,
    too_few_files,
)


def check_open_files(settings: Settings) -> CheckResult:
    """Check how many connections a server could hold that is started as doctor was."""
    subject, pool = "open files", settings.database_pool
    room = connections_that_fit(pool)
    if room < MIN_CONNECTIONS:
        return CheckResult(Level.PROBLEM, subject, too_few_files(pool), RAISE_THE_LIMIT)
    text = f"room for {room:,} connections"
    if room < FEW_CONNECTIONS:
        return CheckResult(Level.WARNING, subject, f"only {text}", RAISE_THE_LIMIT)
    return CheckResult(Level.OK, subject, text)
