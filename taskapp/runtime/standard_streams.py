"""Standard input, output and error as the caller leaves them: closed, full, unread, or in ASCII."""

import atexit
import os
import sys
from io import TextIOWrapper


def prepare_standard_streams() -> None:
    """Open closed streams on /dev/null, and keep what cannot be encoded or written from failing.

    The next file or socket would get the descriptor of a closed stream, and what is printed there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            stream = os.fdopen(descriptor, mode, encoding="utf-8", closefd=False)
            setattr(sys, name, stream)
    if isinstance(sys.stdout, TextIOWrapper):  # as it is unless another program has replaced it
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be any bytes
    atexit.register(_forget_what_cannot_be_written)


def output_problem() -> str:
    """Return why standard output takes nothing; empty if it takes a line break."""
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _forget_what_cannot_be_written() -> None:
    """Send what is left to /dev/null: Python would make it an error of the exit (status 120)."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
