"""Measure taskapp and its peers, and print the results and verdicts.

Run `python -m bench.compare_peers --help` in the checkout; README.md explains the output.
"""

import fcntl
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from bench.growth import compare_growth
from bench.load_generator import LoadGenerator, require_wrk
from bench.logins import measure_logins
from bench.machine import describe_machine
from bench.memory import measure_memory
from bench.nginx import find_nginx
from bench.peers import Peers
from bench.request_points import beside_logins, compare_rates, crowd, responses
from bench.results import Cell, Results, read_last_run, table
from bench.several_taskapps import compare_taskapps
from bench.starts import measure_starts
from bench.targets import Target, Taskapp
from bench.verdicts import HEAD, Verdict
from taskapp.cli.common import CliError

POINTS = (1, 2, 3, 4, 5, 6, 7, 8)
ALL = ",".join(map(str, POINTS))
_FILE = "compare_peers.jsonl"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of the command line."""

    only: tuple[int, ...]
    seconds: int
    repetitions: int
    warm_up: int
    attempts: int
    users: int
    tasks: int
    accounts: int
    requests: int
    starts: int
    soak: float
    peers: Path | None
    database: str
    work: Path


def measure(options: Options) -> None:
    """Measure the points, and store the results in the work folder."""
    require_wrk()
    if 7 in options.only:
        find_nginx()
    results = Results(options.work / _FILE, datetime.now(UTC).isoformat(timespec="seconds"))
    results.keep("machine", {"text": describe_machine()})
    generator = LoadGenerator(
        results, options.seconds, options.repetitions, options.warm_up, options.attempts
    )
    verdicts: list[Verdict] = []
    if {*options.only} - {6}:
        with _loaded(options) as (taskapp, peers, folder):
            verdicts += _measure_requests(options, generator, taskapp, peers, folder)
            verdicts += _measure_taskapp(options, generator, taskapp)
    if 5 in options.only:
        verdicts += compare_growth(
            users=options.users, tasks=options.tasks, requests=options.requests
        )
    if 6 in options.only:
        verdicts += measure_starts(options.starts)
    verdicts.sort(key=lambda verdict: verdict.point)
    for verdict in verdicts:
        results.keep("verdict", asdict(verdict))


@contextmanager
def _loaded(options: Options) -> Iterator[tuple[Taskapp, Peers | None, Path]]:
    """Yield taskapp and the peers, if there are any, with loaded databases."""
    peers = _find_peers(options)
    folder = Path(tempfile.mkdtemp(prefix="ta-bench-"))
    try:
        with ExitStack() as stack:
            url = options.database
            if peers:
                shared_url = stack.enter_context(peers.database())
                url = url or shared_url
            click.echo("# loading taskapp's data, if it is not there")
            yield Taskapp(folder, url, users=options.users, tasks=options.tasks), peers, folder
    finally:
        shutil.rmtree(folder)


def _find_peers(options: Options) -> Peers | None:
    """Return the installed peers, or print that taskapp is measured alone."""
    if options.peers is None:
        click.echo("# No peers are there (see --peers): taskapp is measured alone.")
        return None
    peers = Peers(options.peers, options.work, options.users)
    if not peers.installed():
        click.echo(
            f"# No peer is installed in {options.work}: taskapp is measured alone. This installs "
            f"them: BENCH_WORK={options.work} python3 {options.peers / 'run.py'} setup"
        )
        return None
    click.echo(f"# peers: {', '.join(peers.installed())}")
    return peers


def _measure_requests(
    options: Options,
    generator: LoadGenerator,
    taskapp: Taskapp,
    peers: Peers | None,
    folder: Path,
) -> list[Verdict]:
    """Measure points 1 to 4, with all servers running."""
    if not {1, 2, 3, 4} & {*options.only}:
        return []
    verdicts = []
    with ExitStack() as stack:
        target = stack.enter_context(taskapp.running(options.accounts))
        text = f"Points 1 to 4 on PostgreSQL {target.postgres_version()}."
        generator.results.keep("machine", {"text": text})
        targets: list[Target] = [target]
        if peers:
            targets += [
                stack.enter_context(peers.running(name, folder, options.accounts))
                for name in peers.installed()
            ]
        if 1 in options.only:
            verdicts += compare_rates(generator, targets)
        if 2 in options.only:
            verdicts += crowd(generator, targets)
        if 3 in options.only:
            verdicts += beside_logins(generator, target)
        if 4 in options.only:
            verdicts += responses(generator, taskapp, target)
    return verdicts


def _measure_taskapp(options: Options, generator: LoadGenerator, taskapp: Taskapp) -> list[Verdict]:
    """Measure the points that have no peers: memory, several taskapps, logins."""
    verdicts = []
    if 5 in options.only:
        verdicts += measure_memory(generator, taskapp, options.accounts, options.soak)
    if 7 in options.only:
        verdicts += compare_taskapps(generator, taskapp, options.accounts)
    if 8 in options.only:
        verdicts += measure_logins(taskapp, options.seconds)
    return verdicts


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    """Lock the work folder, like run.py of the peers.

    Raises:
        CliError: another measurement runs there.
    """
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CliError(
                f"Another measurement runs in {work}; two at once would disturb each other."
            ) from error
        yield


def show_last_run(path: Path) -> bool:
    """Print the tables of the last run in a file; return whether all verdicts are met.

    Raises:
        CliError: the file does not exist.
    """
    if not path.exists():
        raise CliError(f"Nothing was measured yet: there is no {path}.")
    run = read_last_run(path)
    verdicts = [Verdict(**values) for values in run["verdict"]]
    click.echo("\n".join(["", *(values["text"] for values in run["machine"]), ""]))
    click.echo(table(Cell(**values) for values in run["cell"]))
    click.echo("\n".join(["", HEAD, *(verdict.row() for verdict in verdicts)]))
    missed = [verdict for verdict in verdicts if not verdict.is_met]
    click.echo(f"\n{len(verdicts) - len(missed)} of {len(verdicts)} verdicts are met.")
    return not missed


def _points(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[int, ...]:
    wanted = tuple(int(text) if text.strip().isdigit() else 0 for text in value.split(","))
    if not {*wanted} <= {*POINTS}:
        raise click.BadParameter(f"Must be some of {ALL}, separated by commas.")
    return wanted


_count = click.IntRange(1)
_folder = click.Path(path_type=Path, file_okay=False, resolve_path=True)


@click.command()
@click.option("--only", default=ALL, show_default=True, callback=_points, help="Points to measure.")
@click.option("--seconds", type=_count, default=10, show_default=True, help="Length of a cell.")
@click.option("--repetitions", type=_count, default=3, show_default=True, help="Per cell.")
@click.option("--warm-up", type=click.IntRange(0), default=2, show_default=True, help="Seconds.")
@click.option(
    "--attempts",
    type=_count,
    default=3,
    show_default=True,
    help="Per cell, while other processes use more than a tenth of the server's core.",
)
@click.option("--users", type=_count, default=10_000, show_default=True)
@click.option("--tasks", type=click.IntRange(50), default=100, show_default=True, help="Per user.")
@click.option("--accounts", type=_count, default=50, show_default=True, help="Logged-in clients.")
@click.option(
    "--requests", type=_count, default=1000, show_default=True, help="Of each kind, for point 5."
)
@click.option("--starts", type=_count, default=5, show_default=True, help="Of each kind.")
@click.option(
    "--soak", type=click.FloatRange(0), default=1.0, show_default=True, help="Minutes of load."
)
@click.option(
    "--peers",
    type=_folder,
    envvar="BENCH_PEERS",
    help="Folder of the peers with their run.py (bench/README.md). Also BENCH_PEERS.",
)
@click.option("--alone", is_flag=True, help="Measure taskapp without peers.")
@click.option(
    "--database",
    default="",
    metavar="URL",
    help="PostgreSQL database for taskapp, loaded if empty; by default the peers' server, or an "
    "embedded one in a temporary folder.",
)
@click.option(
    "--work",
    type=_folder,
    envvar="BENCH_WORK",
    default=Path(tempfile.gettempdir()) / "task-bench",
    show_default=True,
    help="Folder of the installed peers and of the results. Also BENCH_WORK.",
)
@click.option("--last", is_flag=True, help="Measure nothing; print the last run again.")
@click.pass_context
def main(
    context: click.Context, /, *, last: bool, alone: bool, peers: Path | None, **values: Any
) -> None:
    """Measure taskapp and its peers, and print the results and verdicts.

    The exit code is 1 when a verdict is not met.
    """
    options = Options(peers=None if alone else peers, **values)
    options.work.mkdir(parents=True, exist_ok=True)
    if not last:
        signal.signal(
            signal.SIGTERM, lambda *_: sys.exit(1)
        )  # so that the context managers stop what they started
        with _locked(options.work):
            measure(options)
    context.exit(0 if show_last_run(options.work / _FILE) else 1)


if __name__ == "__main__":
    main()
