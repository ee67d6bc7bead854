"""Points 1 to 4: requests a second, compared with the peers and with each other."""

from collections.abc import Mapping, Sequence

from bench.load_generator import Load, LoadGenerator
from bench.results import Summary
from bench.scenarios import CREATE, GET, LIST, OPERATIONS, PAGE, UNCHANGED, UPDATE, Scenario
from bench.targets import NAME, Target, Taskapp
from bench.verdicts import Verdict, compared, limited

CONNECTIONS = (32, 100)
CROWD = 500  # connections
_TIMES: Mapping[str, tuple[float, float | None]] = {"express": (2.5, None), "fastapi": (3.0, None)}
_BARE = "aiopg_fair"
_BARE_TIMES = {  # bound and stretch
    LIST: (1.0, 1.2),
    GET: (1.0, 1.2),
    CREATE: (0.9, 1.0),
    UPDATE: (0.9, 1.0),
}


def compare_rates(generator: LoadGenerator, targets: Sequence[Target]) -> list[Verdict]:
    """Compare the rates of the four operations with those of the peers (point 1)."""
    verdicts = []
    for scenario in OPERATIONS:
        for connections in CONNECTIONS:
            generator.measure(1, [Load(target, scenario, connections) for target in targets])
            if scenario in {CREATE, UPDATE}:
                for target in targets:
                    target.tidy()
            found = {
                target.name: _found(generator, 1, target.name, scenario.name, connections)
                for target in targets
            }
            verdicts += judge_rates(scenario, connections, found)
    return verdicts


def judge_rates(
    scenario: Scenario, connections: int, found: Mapping[str, Summary]
) -> list[Verdict]:
    """Return the verdicts on one operation, one for each measured peer."""
    ours = found[NAME]
    bounds = {**_TIMES, _BARE: _BARE_TIMES[scenario]}
    return [
        compared(
            1,
            f"{scenario.name}, {connections} connections",
            ours.rate,
            "at least",
            bound,
            (peer, theirs.rate),
            "req/s",
            stretch,
            beside=_cpu(ours, theirs),
        )
        for peer, (bound, stretch) in bounds.items()
        if (theirs := found.get(peer))
    ]


def crowd(generator: LoadGenerator, targets: Sequence[Target]) -> list[Verdict]:
    """Measure the p95 of the list at 500 connections (point 2)."""
    loads = [Load(target, LIST, CROWD) for target in targets if target.name in {NAME, "express"}]
    generator.measure(2, loads)
    ours = _found(generator, 2, NAME, LIST.name, CROWD)
    what = f"list, {CROWD} connections"
    verdicts = [
        limited(2, f"{what}, errors", ours.errors, "at most", 0, "requests"),
        compared(2, f"{what}, p95", ours.p95, "at most", 1.6, ("the median", ours.p50), "ms"),
    ]
    theirs = generator.results.find(2, "express", LIST.name, CROWD)
    if theirs:
        base = ("the p95 of express", theirs.p95)
        verdicts.append(compared(2, f"{what}, p95", ours.p95, "at most", 1 / 3, base, "ms"))
    return verdicts


def beside_logins(generator: LoadGenerator, target: Target) -> list[Verdict]:
    """Measure the list while other clients log in without pause (point 3)."""
    disturbed = Load(target, LIST, beside_logins=True)
    generator.measure(3, [Load(target, LIST), disturbed])
    alone = _found(generator, 3, NAME, LIST.name)
    beside = _found(generator, 3, NAME, disturbed.name)
    what = "list, 32 connections, while 4 log in"
    undisturbed = "undisturbed"
    return [
        compared(
            3, f"{what}, rate", beside.rate, "at least", 0.75, (undisturbed, alone.rate), "req/s"
        ),
        compared(3, f"{what}, p95", beside.p95, "at most", 2.0, (undisturbed, alone.p95), "ms"),
        limited(3, f"{what}, logins", beside.logins or 0.0, "more than", 0, "logins/s"),
    ]


def responses(generator: LoadGenerator, taskapp: Taskapp, target: Target) -> list[Verdict]:
    """Compare a page of 50 tasks and a 304 with the JSON list (point 4)."""
    reading = taskapp.with_readers(target)
    generator.measure(4, [Load(reading, scenario) for scenario in (LIST, PAGE, UNCHANGED)])
    listed = _found(generator, 4, NAME, LIST.name)
    base = ("the JSON list", listed.rate)
    return [
        compared(4, what, found.rate, "at least", bound, base, "req/s", beside=_cpu(found, listed))
        for what, scenario, bound in (
            ("HTML page with 50 tasks", PAGE, 0.6),
            ("304 to If-None-Match", UNCHANGED, 1.5),
        )
        for found in [_found(generator, 4, NAME, scenario.name)]
    ]


def _cpu(one: Summary, other: Summary) -> str:
    return f", CPU {one.cpu_per_request:.3f} to {other.cpu_per_request:.3f} ms"


def _found(
    generator: LoadGenerator, point: int, target: str, scenario: str, connections: int = 32
) -> Summary:
    found = generator.results.find(point, target, scenario, connections)
    if found is None:
        raise LookupError(f"{scenario} of {target} was not measured")
    return found
