"""The results of doctor's checks."""

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """The severity of a result; the value is what users see."""

    OK = "ok"
    INFO = "info"
    WARNING = "warn"
    PROBLEM = "FAIL"


@dataclass(frozen=True)
class CheckResult:
    """The result of one check; `fix` says what to do, and may be empty."""

    level: Level
    subject: str
    text: str
    fix: str = ""
