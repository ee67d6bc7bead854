"""The archive: every segment of the write-ahead log (WAL), compressed, from the first backup on.

PostgreSQL runs the command that archives a segment, and repeats it until it succeeds. So none is
skipped, and `pg_wal` grows while the archive cannot be written.
"""

import shlex
import struct
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import time

from taskapp.backups.repository import BackupError
from taskapp.backups.wal_segments import (
    SEGMENT_BYTES,
    Timeline,
    is_history,
    is_wal,
    parse_lsn,
    segment_number,
    timeline_of,
)
from taskapp.core.files import open_file
from taskapp.postgres.permissions import UnixUser, chown_tree, grant_traverse

ARCHIVE_INTERVAL = 60  # seconds; archive_timeout, the most that is lost with the disk
WANTED = "taskapp.archive"  # in the cluster: there is a backup that the archive continues
READY = ".ready"
_GZIP = ".gz"
_BLOCK = 1024 * 1024  # bytes

# Run by `sh` in the cluster's folder. Written aside and renamed, so that a name stands for a whole
# file; another file of the same name is never replaced.
_ARCHIVE = """\
test -e {wanted} || exit 0
to={archive}/%f.gz
if test -e "$to"; then
    gzip -dc "$to" | cmp -s - %p && exit 0
    echo "ERROR: the archive holds another %f" >&2
    exit 1
fi
draft="$to.$$.partial"
nice -n 10 gzip -1 -c %p >"$draft" && touch -r %p "$draft" && sync "$draft" \\
    && mv "$draft" "$to" && sync {archive} && exit 0
rm -f "$draft"
exit 1
"""
# PostgreSQL stops at an exit code above 125, and takes 1 for the end of the WAL.
_RESTORE = """\
if test -e {archive}/%f.gz; then gzip -dc {archive}/%f.gz >%p || exit 200; exit 0; fi
test -e {unarchived}/%f || exit 1
cp {unarchived}/%f %p || exit 200
"""


def archive_settings(archive: Path) -> dict[str, str]:
    """Return the settings by which PostgreSQL archives its WAL in a folder."""
    return {
        "archive_mode": "on",
        "archive_timeout": str(ARCHIVE_INTERVAL),
        "archive_command": _ARCHIVE.format(archive=_quoted(archive), wanted=WANTED),
    }


def restore_command(archive: Path, unarchived: Path) -> str:
    """Return the command by which PostgreSQL takes WAL from an archive or another `pg_wal`."""
    return _RESTORE.format(archive=_quoted(archive), unarchived=_quoted(unarchived))


def prepare_archive(archive: Path, cluster: Path, account: UnixUser | None) -> None:
    """Make the folder of an archive, and let the account that runs PostgreSQL write there."""
    archive.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    archive.mkdir(mode=0o700, exist_ok=True)
    if account:
        grant_traverse(account, [archive])
        if archive.stat().st_uid != account.uid:
            chown_tree(account, archive)
    status = cluster.stat()
    (cluster / WANTED).touch(mode=0o600)
    if account:
        chown_tree(UnixUser(status.st_uid, status.st_gid), cluster / WANTED)


def archive_lag(cluster: Path) -> tuple[int, float]:
    """Return how many segments wait to be archived, and for how many seconds the first has."""
    timestamps = [
        path.stat().st_mtime for path in (cluster / "pg_wal/archive_status").glob(f"*{READY}")
    ]
    return len(timestamps), max(0.0, time() - min(timestamps)) if timestamps else 0.0


class WalSource:
    """The segments that a restore can use: in an archive, or left in a cluster's `pg_wal`."""

    def __init__(self, archive: Path, unarchived: Path | None = None, system: str = "") -> None:
        """Read the folders, which need not be there; of `unarchived`, what is this system's."""
        self._paths: dict[str, Path] = {}
        for path in _files(unarchived):
            if is_history(path.name) or (is_wal(path.name) and _belongs(path, system)):
                self._paths[path.name] = path
        written = (segment_number(name) for name in self._paths if not is_history(name))
        self._last_written = max(written, default=None)
        for path in _files(archive):
            if path.suffix == _GZIP and is_wal(path.stem):
                self._paths[path.stem] = path

    def timeline_at(self, timestamp: datetime | None) -> Timeline:
        """Return the timeline that the database was on at some time, or is on now.

        It is chosen by the clock, so that a state that a later restore undid can be restored.
        """
        begun = [line for line in self._timelines() if not timestamp or _begins(line) <= timestamp]
        return max(begun, key=lambda line: line.number, default=Timeline(1, None, ()))

    def chain(self, first: str, timeline: Timeline) -> list[str]:
        """Return the names from the first one on, without a gap, as a timeline has them."""
        number = segment_number(first)
        names = []
        while (name := timeline.segment_at(number)) in self._paths:
            names.append(name)
            number += 1
        return names

    def is_archived(self, name: str) -> bool:
        """Return whether a segment is in the archive, and not merely left in a cluster."""
        return name in self._paths and self._paths[name].suffix == _GZIP

    def after_gap(self, chain: list[str], timeline: Timeline) -> str:
        """Return the name of a segment of a timeline after the end of a chain; empty if none is."""
        return self._first_after(segment_number(chain[-1]), timeline)

    def find_unwritten(self, timeline: Timeline) -> str:
        """Return the name of an archived segment that the cluster has yet to write; empty if none.

        Another cluster, or a later state of this one, has archived it.
        """
        if self._last_written is None:
            return ""
        return self._first_after(self._last_written, timeline)

    def _first_after(self, number: int, timeline: Timeline) -> str:
        later = (
            name
            for name in sorted(self._paths, key=lambda name: name[8:])
            if not is_history(name)
            and segment_number(name) > number
            and timeline.segment_at(segment_number(name)) == name
        )
        return next(later, "")

    def timestamp(self, name: str) -> datetime:
        """Return when PostgreSQL wrote to a segment last; it holds all changes before that."""
        path = self._paths[name]
        seconds = path.stat().st_mtime
        if path.suffix == _GZIP:
            with open_file(path) as file:  # what gzip noted, in whole seconds, outlives a copy
                noted: int = struct.unpack("<4xI", file.read(8))[0]
            if noted and int(seconds) != noted:
                seconds = noted
        return datetime.fromtimestamp(seconds, UTC)

    def is_whole(self, name: str) -> bool:
        """Return whether an archived segment can be read to its end, and has its full length."""
        try:
            return sum(map(len, _decompressed(self._paths[name]))) == SEGMENT_BYTES
        except (OSError, zlib.error):
            return False

    def timeline(self, number: int) -> Timeline:
        """Return the timeline with a number; its history file may not exist yet."""
        found = (line for line in self._timelines() if line.number == number)
        return next(found, Timeline(number, None, ()))

    def _timelines(self) -> list[Timeline]:
        """Return all timelines, the first one first; raise BackupError if one cannot be read."""
        histories = filter(is_history, self._paths)
        return [Timeline(1, None, ()), *map(self._read_history, histories)]

    def _read_history(self, name: str) -> Timeline:
        path = self._paths[name]
        try:
            lines = [line.split() for line in _content(path).decode("ascii").splitlines()]
            parents = tuple(
                (int(words[0]), parse_lsn(words[1]))
                for words in lines
                if words and words[0].isdecimal()
            )
            return Timeline(timeline_of(name), self.timestamp(name), parents)
        except (ValueError, IndexError, zlib.error, struct.error) as error:
            raise BackupError(
                f"The archive is damaged: {path} does not say where timeline {timeline_of(name)} "
                f"begins ({error}). Bring it back from a copy of the backups, or move it away to "
                f"restore without what was written on that timeline."
            ) from error


def tell_unwritten(archive: Path, name: str) -> str:
    """Return the sentence about a segment that `WalSource.find_unwritten` has found."""
    return (
        f"The archive {archive} holds {name}, which this database has yet to write: a copy of it "
        f"archives there too, or it was put back to an earlier state. If neither is so, move that "
        f"file away"
    )


def find_conflict(archive: Path, cluster: Path) -> str:
    """Return a sentence if another cluster, a copy of this one, archives in the same place.

    Then the archive has another segment of a name that this one has yet to archive.
    """
    for waiting in (cluster / "pg_wal/archive_status").glob(f"*{READY}"):
        archived = archive / f"{waiting.stem}{_GZIP}"
        local = cluster / "pg_wal" / waiting.stem
        if is_wal(waiting.stem) and archived.exists() and not _is_same(archived, local):
            return (
                f"The archive {archive} holds another {waiting.stem} than the one that is to be "
                f"archived: a copy of this database archives there too"
            )
    return ""


def remove_wal(
    archive: Path, *, before: Sequence[str], but: Sequence[tuple[str, str]] = ()
) -> None:
    """Remove the segments before the earliest of `before`; history files stay.

    `but` has the first and the last segment of each range that is kept. Without `before`, nothing
    is removed.
    """
    first = min(map(segment_number, before), default=0)
    kept = [(segment_number(begin), segment_number(end)) for begin, end in but]
    for path in archive.iterdir():
        name = path.name[:24]
        number = segment_number(name) if is_wal(name) else first
        is_old = number < first and not any(begin <= number <= end for begin, end in kept)
        is_leftover = path.suffix == ".partial" and time() - path.stat().st_mtime > 3600
        if is_old or is_leftover:
            path.unlink(missing_ok=True)


def _is_same(archived: Path, local: Path) -> bool:
    try:
        with local.open("rb") as file:
            same = all(file.read(len(block)) == block for block in _decompressed(archived))
            return same and not file.read(1)
    except FileNotFoundError:  # it was archived just now
        return True
    except zlib.error:
        return False


def _files(folder: Path | None) -> list[Path]:
    return [*folder.iterdir()] if folder and folder.is_dir() else []


def _belongs(path: Path, system: str) -> bool:
    """Return whether a segment is this system's, and not an old file renamed for its next use."""
    with open_file(path) as file:
        header = file.read(32)  # XLogLongPageHeaderData
    if len(header) < 32:
        return False
    timeline, address, found = struct.unpack("=4xIQ8xQ", header)
    return (
        str(found) == system
        and address == segment_number(path.name) * SEGMENT_BYTES
        and timeline <= timeline_of(path.name)
    )


def _begins(timeline: Timeline) -> datetime:
    return timeline.begun or datetime.min.replace(tzinfo=UTC)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path)).replace("%", "%%")


def _content(path: Path) -> bytes:
    if path.suffix == _GZIP:
        return b"".join(_decompressed(path))
    with open_file(path) as file:
        return file.read()


def _decompressed(path: Path) -> Iterator[bytes]:
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 16)  # of gzip, its checksum included
    with open_file(path) as file:
        while block := file.read(_BLOCK):
            yield decompressor.decompress(block)
    yield decompressor.flush()
    if not decompressor.eof:
        raise zlib.error("the end is missing")
