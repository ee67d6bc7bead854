"""The logging of this process, which a command that runs in it changes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from taskapp.config.settings import load_settings
from taskapp.observability.logs import configure_logging


@contextmanager
def restored_logging() -> Iterator[None]:
    """Restore at the end of the block what `configure_logging` and a command's settings change."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    configure_logging(load_settings({}))
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("asyncio", "alembic", "taskapp.postgresql"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.getLogger("tornado.access").disabled = False
