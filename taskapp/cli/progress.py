"""Shows on standard error that a command lives: bars on a terminal, elsewhere a line at times."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import click

from taskapp.core.progress import Progress, Step, follow_progress

LINE_INTERVAL = 10.0  # seconds
_BAR_INTERVAL = 0.2  # seconds


@contextmanager
def shown_progress() -> Iterator[None]:
    """Show the steps of what runs in the block."""
    followed, ended = follow_progress(), threading.Event()
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    show = _show_bars if is_terminal else _show_lines
    thread = threading.Thread(target=show, args=(followed, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _show_bars(followed: Progress, ended: threading.Event) -> None:
    while not ended.wait(_BAR_INTERVAL):
        if followed.step.text:
            _show_bar(followed, ended)


def _show_bar(followed: Progress, ended: threading.Event) -> None:
    step = followed.step

    def ticks() -> Iterator[Step]:
        while followed.step is step and not ended.wait(_BAR_INTERVAL):
            yield step

    if not step.total:
        with click.progressbar(
            ticks(), label=step.text, item_show_func=_describe, file=sys.stderr
        ) as bar:
            for _ in bar:
                pass
        return
    with click.progressbar(length=step.total, label=step.text, file=sys.stderr) as known:
        shown = 0
        for _ in ticks():
            done = min(step.done, step.total)
            known.update(done - shown)
            shown = done


def _describe(step: Step | None) -> str:
    return step.describe() if step else ""


def _show_lines(followed: Progress, ended: threading.Event) -> None:
    started = monotonic()
    while not ended.wait(LINE_INTERVAL):
        step = followed.step
        share = f"{min(100, 100 * step.done // step.total)} %" if step.total else step.describe()
        seconds = f"{monotonic() - started:.0f} seconds"
        text = step.text or "Beginning"
        click.echo(f"{text}: {', '.join(filter(None, (share, seconds)))}", err=True)
