"""What doctor finds: one line each, with the fix."""

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """How a finding is meant; the value is what people see."""

    OK = "ok"
    INFO = "info"
    WARNING = "warn"
    PROBLEM = "FAIL"


@dataclass(frozen=True)
class CheckResult:
    """What one check found out; `fix` says what to do about it, or is empty."""

    level: Level
    subject: str
    text: str
    fix: str = ""
