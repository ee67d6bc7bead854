"""The log: one line of text or JSON for each event, with the id of its request.

Lines name ids, never contents: no password, token, cookie, email address or task text.
"""

import json
import logging
import sys
import time
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import IO, TYPE_CHECKING

import msgspec

from taskapp.config.settings import Settings
from taskapp.core.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable

Value = str | int | float | bool | None

# What each line of a request has: its id, and those of its trace.
request_values: ContextVar[Mapping[str, Value]] = ContextVar(
    "request_values", default=MappingProxyType({})
)

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_encode = msgspec.json.Encoder(
    enc_hook=str
).encode  # a Message is a str, which msgspec does not see


class _Output:
    """The stream, the format and the lowest level of the log."""

    def __init__(self) -> None:
        self.level = _LEVELS["info"]
        self.stream: IO[str] | None = None  # None: sys.stderr as it is when a line is written
        self.render: Callable[[dict[str, Value]], str] = _as_json

    def write(self, line: dict[str, Value]) -> None:
        stream = self.stream or sys.stderr
        try:  # not suppress(), which doubles the cost of a line
            stream.write(self.render(line))
            stream.flush()
        except OSError:  # the reader of the log is gone; requests still work
            pass


def _as_json(line: dict[str, Value]) -> str:
    try:
        text = _encode(line).decode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate
        text = json.dumps(line)
    return printable(text) + "\n"


def _as_text(line: dict[str, Value]) -> str:
    shown = dict(line)
    head = f"{shown.pop('time')} {str(shown.pop('level')).upper():7} {shown.pop('event')}"
    trace = shown.pop("traceback", None)
    tail = "".join(
        f" {name}={_plain(value)}" for name, value in shown.items() if value not in ("", None)
    )
    parts = str(trace).split("\n") if trace else []
    return f"{head}{tail}\n" + "".join(f"    {printable(part)}\n" for part in parts)


def _as_short_text(line: dict[str, Value]) -> str:
    """Return a request that was answered in a few words, for a person at a terminal."""
    if line["event"] != "request.completed" or line["level"] != "info":
        return _as_text(line)
    time_of_day = datetime.fromisoformat(str(line["time"])).astimezone().strftime("%H:%M:%S")
    parts = (time_of_day, line["method"], line["route"], line["status"], line["ms"], "ms")
    return " ".join(map(str, parts)) + "\n"


def _plain(value: Value) -> str:
    text = str(value)
    if text.isprintable() and " " not in text:
        return text
    return printable(json.dumps(text, ensure_ascii=False))


_output = _Output()


def log(event: str, level: str = "info", **values: Value) -> None:
    """Write one line: an event such as "task.created", and its values."""
    if _LEVELS[level] < _output.level:
        return
    line: dict[str, Value] = {"time": now_text(), "level": level, "event": event}
    line.update(request_values.get())
    line.update(values)
    _output.write(line)


def now_text() -> str:
    """Return the current time in UTC, as RFC 3339 with milliseconds."""
    seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{_write_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=2)
def _write_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class _Handler(logging.Handler):
    """Writes the records of libraries in the same format."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= 40 else record.levelname.lower()
        try:
            message = record.getMessage()
        except (
            TypeError,
            ValueError,
            KeyError,
        ):  # a bug of the library
            message = repr((record.msg, record.args))
        values: dict[str, Value] = {"logger": record.name, "message": message}
        if record.exc_info:
            values["traceback"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        log("library.logged", level if level in _LEVELS else "info", **values)


def configure_logging(settings: Settings, stream: IO[str] | None = None) -> None:
    """Configure the log, that of libraries too; it goes to standard error by default."""
    _output.stream = stream
    _output.level = _LEVELS[settings.log_level]
    is_at_terminal = settings.log_format == "auto" and (stream or sys.stderr).isatty()
    is_text = settings.log_format == "text"
    _output.render = _as_short_text if is_at_terminal else _as_text if is_text else _as_json
    root = logging.getLogger()
    root.handlers[:] = [_Handler()]
    root.setLevel(_output.level)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("tornado.access").disabled = True  # the application logs requests itself
    logging.captureWarnings(capture=True)
