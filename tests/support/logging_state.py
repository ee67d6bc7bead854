"""The logging of this process, which a command or a server that runs in it changes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from taskapp.observability import logs


@contextmanager
def logging_of_its_own() -> Iterator[None]:
    """Begin with the log as a process has it at first, and undo what `configure_logging` does."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with mock.patch.object(logs, "_output", logs._Output()):  # noqa: SLF001  # there is no other way
        yield
    if root.handlers == handlers:
        return
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("asyncio", "alembic", "taskapp.postgresql"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.getLogger("tornado.access").disabled = False
