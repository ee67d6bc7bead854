"""The drill at random: two taskapps on one disk, and everything that happens to a disk and a clock.

After each restore the database holds exactly a state that it had, or a sentence has refused and
all is as before. A longer one: `DRILL_EXAMPLES=200 pytest tests/backups/test_random_drill.py`.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from time import sleep
from typing import ClassVar

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from taskapp.backups.catalog import Catalog
from taskapp.backups.create import read_own_catalog
from taskapp.backups.identity import find_embedded_database
from taskapp.backups.repository import Backup, BackupError
from taskapp.backups.status import BackupStatus
from taskapp.backups.unmounted_disk import RECORD
from tests.support.backup_tools import Instance, short_parent
from tests.support.server_process import CHECKOUT, LONG_ENOUGH, postgres_processes, wait_until

EXAMPLES = int(os.environ.get("DRILL_EXAMPLES", "3"))
STEPS = 9  # of an example; each starts a PostgreSQL, which takes a second
KEEP = "2"
TEN_YEARS = "+3650d"

BACKUP = (sys.executable, "-m", "server", "backup")
NAMES = ["keep", "20200101T000000.000000Z-base"]
HOUSES = st.sampled_from(["alice", "bob"])


@dataclass
class Kept:
    """A instance, the state that it is in, and those that it had."""

    instance: Instance
    titles: list[str]
    number: int = 0
    has_jumped: bool = False  # its clock
    at: list[tuple[datetime, list[str]]] = field(default_factory=list)
    backups: dict[datetime, list[str]] = field(default_factory=dict)  # by the time in them

    @property
    def own(self) -> list[Backup]:
        catalog = read_own(self.instance)
        return [*catalog.own, *catalog.future]

    def note_backups(self) -> None:
        for backup in self.own:
            self.backups.setdefault(backup.timestamp, self.titles)


@pytest.fixture(scope="module")
def originals() -> Iterator[dict[str, Instance]]:
    """Two data folders with an account each, and nothing that was ever backed up."""
    with short_parent() as alice, short_parent() as bob:
        houses = {"alice": Instance(alice / "data"), "bob": Instance(bob / "data")}
        for instance in houses.values():
            instance.fill()
        yield houses


def read_own(instance: Instance) -> Catalog:
    return read_own_catalog(instance.settings())


class Drill(RuleBasedStateMachine):
    """What may happen to the two, whose data folders `originals` holds."""

    originals: ClassVar[dict[str, Instance]]

    @initialize()
    def move_in(self) -> None:
        self.stack = ExitStack()
        alice, bob, self.parent = (self.stack.enter_context(short_parent()) for _ in range(3))
        self.parent.chmod(0o755)
        self.disk = self.parent / "mnt"
        self.disk.mkdir(mode=0o755)
        self.kept = {}
        for name, parent in (("alice", alice), ("bob", bob)):
            instance = self.originals[name].copied_to(parent)
            instance.backup_dir = self.disk / "backups"
            self.kept[name] = Kept(instance, [])

    @property
    def is_away(self) -> bool:
        return (self.parent / "away").exists()

    def would_be_the_first(self, kept: Kept) -> bool:
        """Return whether nobody could know yet that a disk is missing."""
        return self.is_away and not (kept.instance.data_dir / RECORD).exists()

    @rule(name=HOUSES)
    def write(self, name: str) -> None:
        kept = self.kept[name]
        kept.number += 1
        title = f"{name} {kept.number}"
        (at,) = kept.instance.write(title)
        kept.titles = [*kept.titles, title]
        kept.at.append((at, kept.titles))

    @rule(name=HOUSES)
    def back_up(self, name: str) -> None:
        kept = self.kept[name]
        if self.would_be_the_first(kept):
            return
        if self.is_away:
            with pytest.raises(BackupError, match="are gone"):
                kept.instance.back_up(BACKUP_KEEP=KEEP)
            return
        made = kept.instance.back_up(BACKUP_KEEP=KEEP)
        kept.backups[made.timestamp] = kept.titles
        assert made.database == find_embedded_database(kept.instance.data_dir)

    @rule(name=HOUSES)
    def back_up_with_a_clock_that_is_ahead(self, name: str) -> None:
        kept = self.kept[name]
        if not self.would_be_the_first(kept):
            command(kept.instance, "faketime", "-f", TEN_YEARS, *BACKUP)
            kept.has_jumped = True
            kept.note_backups()

    @rule(name=HOUSES, seconds=st.floats(0.2, 2.5))
    def kill_a_backup(self, name: str, seconds: float) -> None:
        kept = self.kept[name]
        if not self.would_be_the_first(kept):
            command(kept.instance, *BACKUP, seconds=seconds)
            kept.note_backups()

    @precondition(lambda self: not self.is_away and (self.disk / "backups").exists())
    @rule()
    def unmount(self) -> None:
        self.disk.rename(self.parent / "away")
        self.disk.mkdir(mode=0o755)

    @precondition(lambda self: self.is_away)
    @rule()
    def mount(self) -> None:
        assert not any(self.disk.iterdir())
        self.disk.rmdir()
        (self.parent / "away").rename(self.disk)

    @rule(data=st.data(), copy=st.booleans(), name=st.sampled_from(NAMES))
    def rename_or_copy(self, data: st.DataObject, name: str, *, copy: bool) -> None:
        entries = sorted(self.disk.glob("backups/*-base"))
        if entries and not (self.disk / "backups" / name).exists():
            entry = data.draw(st.sampled_from(entries))
            if copy:
                shutil.copytree(entry, entry.with_name(name))
            else:
                entry.rename(entry.with_name(name))

    @precondition(lambda self: (self.disk / "backups").exists())
    @rule(content=st.sampled_from(["", "{", "[]", '{"kind": "base"}']))
    def damage(self, content: str) -> None:
        entry = self.disk / "backups" / "20300101T000000.000000Z-base"
        entry.mkdir(exist_ok=True)
        (entry / "backup.json").write_text(content)

    @rule(name=HOUSES)
    def restore_all(self, name: str) -> None:
        kept = self.kept[name]
        self.restore(kept, kept.titles)

    @rule(name=HOUSES, data=st.data())
    def restore_an_earlier_state(self, name: str, data: st.DataObject) -> None:
        kept = self.kept[name]
        if kept.at:
            at, titles = data.draw(st.sampled_from(kept.at))
            self.restore(kept, titles, timestamp=at)

    @rule(name=HOUSES, data=st.data())
    def restore_a_backup(self, name: str, data: st.DataObject) -> None:
        kept = self.kept[name]
        if own := kept.own:
            backup = data.draw(st.sampled_from(own))
            self.restore(kept, kept.backups[backup.timestamp], backup=backup.name)

    def restore(
        self,
        kept: Kept,
        titles: list[str],
        *,
        timestamp: datetime | None = None,
        backup: str = "",
    ) -> None:
        try:
            kept.instance.restore(timestamp, backup)
        except BackupError:
            hypothesis.event("refused")
        else:
            hypothesis.event("restored")
            kept.titles = titles
            if timestamp and kept.has_jumped:  # a time means little then; a state, still all
                kept.titles = kept.instance.titles()
                assert kept.titles in [[], *(state for _, state in kept.at)]
        assert kept.instance.titles() == kept.titles

    @invariant()
    def what_is_there_is_told(self) -> None:
        for kept in getattr(self, "kept", {}).values():
            report = BackupStatus(kept.instance.settings()).inspect()
            assert (report.newest is None) == (not read_own(kept.instance).routine)
            if self.is_away and kept.backups:
                assert report.failures

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()


def command(instance: Instance, *words: str, seconds: float | None = None) -> None:
    """Run a command in an instance, and kill it after so many seconds with all that it started."""
    environment = {**os.environ, **instance.settings(BACKUP_KEEP=KEEP).texts}
    with subprocess.Popen(
        words,
        env=environment,
        cwd=CHECKOUT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        if seconds is not None:
            sleep(seconds)
            process.send_signal(signal.SIGKILL)
        process.wait(LONG_ENOUGH)
    wait_until(lambda: not postgres_processes(instance.data_dir))


def test_whatever_happens_a_restore_gives_a_state_that_was_or_refuses(
    originals: dict[str, Instance],
) -> None:
    run_state_machine_as_test(
        type("DrillOfThese", (Drill,), {"originals": originals}),
        settings=hypothesis.settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=[*hypothesis.HealthCheck],
            phases=[hypothesis.Phase.generate],
            print_blob=True,
        ),
    )
