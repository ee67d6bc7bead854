"""One event is one line, whatever it holds, and nothing that happens is left out of the log."""

import io
import json
import logging
import os
import pty
import re
import sys
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskapp.config.settings import load_settings
from taskapp.observability.logs import configure_logging, log, request_values

NASTY = (
    "\n{}\n",
    "\r",
    "\x1b[2J",
    "\x9b2J",
    "\x85",
    "\x7f",
    "\0",
    "\u2028",
    "\u2029",
    "\x0b\x0c\x1c",
    "\u202e",
    "\ud800",
    "\U0001f469\u200d\U0001f680",
    '"\\',
)


def configure(form: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure_logging(
        load_settings({"TASKAPP_LOG_FORMAT": form, "TASKAPP_LOG_LEVEL": level}), stream
    )
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_a_line_of_json() -> None:
    stream = configure("json")
    log("task.created", userId="u1", count=3, share=0.5, ok=True, nothing=None)
    log("login.failed", "warning")
    first, second = lines(stream)
    assert first.pop("time") <= second.pop("time")
    assert first == {
        "level": "info",
        "event": "task.created",
        "userId": "u1",
        "count": 3,
        "share": 0.5,
        "ok": True,
        "nothing": None,
    }
    assert second == {"level": "warning", "event": "login.failed"}


def test_an_event_is_a_line_of_text() -> None:
    stream = configure("text")
    log("task.created", userId="u1", count=3, nothing=None, empty="", words="two words")
    time, *rest = stream.getvalue().rstrip("\n").split(" ", 1)
    assert rest == ['INFO    task.created userId=u1 count=3 words="two words"']
    assert len(time) == len("2026-02-02T10:00:00.000Z")


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("nasty", NASTY)
def test_nothing_breaks_a_line_or_reaches_the_terminal(form: str, nasty: str) -> None:
    stream = configure(form)
    log("request.completed", path=f"/{nasty}", agent=nasty)
    logging.getLogger("library").warning("It said %s", nasty)
    text = stream.getvalue()
    assert len(text.splitlines()) == 2
    assert text.replace("\n", "").isprintable()


@given(value=st.text(st.characters()))
def test_a_line_of_json_holds_what_was_logged(value: str) -> None:
    stream = configure("json")
    log("request.completed", path=value)
    [line] = lines(stream)
    assert line["path"] == value


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_less_than_the_level_is_left_out(level: str) -> None:
    names = ["debug", "info", "warning", "error"]
    stream = configure("json", level)
    for name in names:
        log("ours", name)
        logging.getLogger("library").log(getattr(logging, name.upper()), "theirs")
    kept = names[names.index(level) :]
    assert [line["level"] for line in lines(stream)] == [name for name in kept for _ in range(2)]


def test_every_line_of_a_request_bears_its_id() -> None:
    stream = configure("json")
    token = request_values.set({"requestId": "r-1"})
    log("task.created")
    logging.getLogger("library").error("failed")
    request_values.reset(token)
    log("started")
    assert [line.get("requestId") for line in lines(stream)] == ["r-1", "r-1", None]


def test_what_a_library_logs_is_one_line_too() -> None:
    stream = configure("json")
    library = logging.getLogger("some.library")
    library.warning("%d of %s", 3, "five")
    library.critical("the end")
    library.log(25, "a level of its own")
    [first, second, third] = lines(stream)
    assert (first["event"], first["logger"], first["message"]) == (
        "library.logged",
        "some.library",
        "3 of five",
    )
    assert [line["level"] for line in (first, second, third)] == ["warning", "error", "info"]


@pytest.mark.parametrize("form", ["json", "text"])
def test_an_exception_comes_with_its_trace_and_cannot_forge_a_line(form: str) -> None:
    stream = configure(form)
    forged = f"2026-02-02T10:00:00.000Z ERROR   forged\n{'x' * 5}\x1b[2J\u2028\ud800"
    try:
        raise ValueError(forged)  # noqa: TRY301  # here, so that it has a trace
    except ValueError:
        logging.getLogger("library").exception("It broke")
    written = stream.getvalue()
    assert written.replace("\n", "").isprintable()
    if form == "json":
        [line] = lines(stream)
        assert line["traceback"].startswith("Traceback (most recent call last)")
        assert "ValueError: 2026" in line["traceback"]
    else:
        first, *trace = written.splitlines()
        assert first.endswith('logger=library message="It broke"')
        assert all(line.startswith("    ") for line in trace)
        assert any("ValueError: 2026" in line for line in trace)


def test_warnings_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    stream = configure("json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)  # inside, where pytest does not record them
        warnings.warn("old\nstyle", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    [line] = lines(stream)
    assert (line["level"], line["logger"]) == ("warning", "py.warnings")
    assert "DeprecationWarning: old\nstyle" in line["message"]
    assert capsys.readouterr().err == ""


def test_a_library_that_logs_wrongly_does_not_break_its_caller() -> None:
    stream = configure("json")
    logging.getLogger("library").error("%d", "no number")
    [line] = lines(stream)
    assert line["level"] == "error"
    assert "%d" in line["message"]


def test_the_form_follows_the_terminal() -> None:
    log_settings = load_settings({})
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w", encoding="utf-8") as terminal:
        configure_logging(log_settings, terminal)
        log("started")
        assert os.read(leader, 1000).decode().endswith("INFO    started\r\n")
    os.close(leader)
    stream = io.StringIO()
    configure_logging(log_settings, stream)
    log("started")
    assert lines(stream)


def test_without_a_stream_lines_go_to_the_standard_error_of_the_moment(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(load_settings({}))
    print("shown", file=sys.stdout)  # noqa: T201  # what is meant for people stays apart
    log("started")
    captured = capsys.readouterr()
    assert captured.out == "shown\n"
    assert json.loads(captured.err)["event"] == "started"


def test_access_lines_and_chatter_of_libraries_are_left_out() -> None:
    stream = configure("json", "debug")
    logging.getLogger("tornado.access").warning("404 GET /")
    logging.getLogger("asyncio").info("Using selector")
    logging.getLogger("alembic.runtime.migration").info("Context impl")
    assert stream.getvalue() == ""


class TerminalStream(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def at_terminal(form: str) -> io.StringIO:
    stream = TerminalStream()
    configure_logging(load_settings({"TASKAPP_LOG_FORMAT": form}), stream)
    return stream


def test_at_a_terminal_a_request_is_a_few_words_and_all_else_is_whole() -> None:
    stream = at_terminal("auto")
    values: dict[str, Any] = {
        "method": "GET",
        "route": "/tasks",
        "status": 200,
        "ms": 3.25,
        "userId": "u1",
    }
    log("request.completed", **values)
    log("request.completed", "error", **values | {"status": 500})
    log("task.created", taskId="t1")
    request, failed, other = stream.getvalue().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d GET /tasks 200 3.25 ms", request)
    values_of_failed = "method=GET route=/tasks status=500 ms=3.25 userId=u1"
    assert failed.endswith(f"ERROR   request.completed {values_of_failed}")
    assert other.endswith("INFO    task.created taskId=t1")


@pytest.mark.parametrize(("form", "whole"), [("text", "route=/tasks"), ("json", '"status":200')])
def test_a_format_that_is_set_is_the_same_at_a_terminal(form: str, whole: str) -> None:
    stream = at_terminal(form)
    log("request.completed", method="GET", route="/tasks", status=200, ms=3.25)
    assert whole in stream.getvalue()
