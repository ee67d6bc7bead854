"""Compares the database with the ledger, and reports violations."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from tests.faults.ledger import COMES_BACK_WITHIN, Ledger, content, owner_of
from tests.support.database_fixtures import execute

ROWS = """
    SELECT users.email, tasks.title, tasks.description, tasks.status, tasks.idempotency_key
    FROM tasks JOIN users ON users.id = tasks.user_id WHERE users.email = ANY(%s)
"""


@dataclass
class Findings:
    """The violations; all lists are empty if there is none."""

    lost: list[str] = field(default_factory=list)  # acknowledged, but missing
    half_done: list[str] = field(default_factory=list)  # a mix of two revisions
    misplaced: list[str] = field(default_factory=list)  # at another user
    repeated: list[str] = field(default_factory=list)  # one write, several tasks
    unasked: list[str] = field(default_factory=list)  # never sent, or rejected
    surprises: list[str] = field(default_factory=list)  # unexpected responses


def check(ledger: Ledger, url: str) -> Findings:
    """Compare the database with the ledger; no writer may run."""
    findings = Findings(surprises=ledger.surprises)
    found: defaultdict[str, list[int]] = defaultdict(list)
    for email, title, description, status, key in execute(
        url, ROWS, [user.email for user in ledger.users]
    ):
        owner, marked_key, revision = title.split()
        if f"{owner}@example.com" != email:
            findings.misplaced.append(f"{email} has {title}")
        fields = {"title": title, "description": description, "status": status}
        if fields != content(owner, marked_key, int(revision)) or key != marked_key:
            findings.half_done.append(f"{fields} with the key {key}")
        found[marked_key].append(int(revision))
    findings.repeated += [key for key, revisions in found.items() if len(revisions) > 1]
    known = {task.key for task in ledger.tasks}
    findings.unasked += [key for key in found if key not in known]
    _compare_revisions(ledger, found, findings)
    return findings


def _compare_revisions(ledger: Ledger, found: dict[str, list[int]], findings: Findings) -> None:
    for task in ledger.tasks:
        at = max(found[task.key], default=None)
        if at not in task.possible:
            is_newer = at is not None and (task.revision is None or at > task.revision)
            wrong = findings.unasked if is_newer and task.revision is not None else findings.lost
            wrong.append(f"{task.key} is at {at}, and not at one of {task.possible}")


def assert_all_is_well(ledger: Ledger, url: str) -> None:
    """Compare the database with the ledger, resend unknown writes, and compare again.

    Writes were acknowledged again within the promised time.
    """
    assert ledger.measure_longest_pause() < COMES_BACK_WITHIN
    assert check(ledger, url) == Findings()
    ledger.settle()
    assert check(ledger, url) == Findings()
    for user in ledger.users:
        with user:
            marks = Counter(title.split()[0] for title in user.titles())
        assert set(marks) <= {owner_of(user)}
