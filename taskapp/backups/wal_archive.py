"""The archive: every file of the write-ahead log (WAL), compressed, from the first backup on.

PostgreSQL itself runs the command that archives a file, and goes on trying until it succeeds; so
a file is never given up, and `pg_wal` grows while the archive cannot be written.

A file is named by its timeline and its place in the log: 00000001 00000000 0000002A. A restore
begins a new timeline, and leaves its history file; what the old one had after the fork remains.
"""

import shlex
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import time

from taskapp.postgres.permissions import UnixUser, chown_tree, grant_traverse

SEGMENT_BYTES = 16 * 1024 * 1024  # initdb's default
ARCHIVE_INTERVAL = 60  # seconds for which what was written may be missing in the archive
WANTED = "taskapp.archive"  # in the cluster: there is a backup that the archive continues
READY = ".ready"
_SEGMENTS_OF_A_LOG = 2**32 // SEGMENT_BYTES
_HISTORY = ".history"
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
# By a status above 125 PostgreSQL stops; by 1 it takes this for the end of the log.
_RESTORE = """\
if test -e {archive}/%f.gz; then gzip -dc {archive}/%f.gz >%p || exit 200; exit 0; fi
test -e {unarchived}/%f || exit 1
cp {unarchived}/%f %p || exit 200
"""


def read_system(cluster: Path) -> str:
    """Read the system identifier of a cluster, with which its control file begins."""
    with (cluster / "global" / "pg_control").open("rb") as file:
        return str(struct.unpack("=Q", file.read(8))[0])


def archive_settings(archive: Path) -> dict[str, str]:
    """Give the settings by which PostgreSQL archives its WAL in a folder."""
    return {
        "archive_mode": "on",
        "archive_timeout": str(ARCHIVE_INTERVAL),
        "archive_command": _ARCHIVE.format(archive=_quoted(archive), wanted=WANTED),
    }


def restore_command(archive: Path, unarchived: Path) -> str:
    """Give the command by which PostgreSQL takes WAL from an archive, or from what else is left."""
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
    """Tell how many files wait to be archived, and for how many seconds the first has done so."""
    timestamps = [
        path.stat().st_mtime for path in (cluster / "pg_wal/archive_status").glob(f"*{READY}")
    ]
    return len(timestamps), max(0.0, time() - min(timestamps)) if timestamps else 0.0


def segment_number(name: str) -> int:
    """Give the place of a file in the log, counted from its beginning."""
    return int(name[8:16], 16) * _SEGMENTS_OF_A_LOG + int(name[16:24], 16)


def segment_name(timeline: int, number: int) -> str:
    """Name the file of a timeline at a place in the log."""
    log, segment = divmod(number, _SEGMENTS_OF_A_LOG)
    return f"{timeline:08X}{log:08X}{segment:08X}"


def parse_lsn(text: str) -> int:
    """Read a lsn in the log, such as 0/2A000028, and give its byte."""
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


@dataclass(frozen=True)
class Timeline:
    """A timeline: when it began, and where in the log those before it ended."""

    number: int
    begun: datetime | None  # the first one began with the cluster
    parents: tuple[tuple[int, int], ...]  # timeline, and the byte at which it was left

    def segment_at(self, number: int) -> str:
        """Name the file that this timeline has at a place in the log."""
        for parent, end in self.parents:
            if number < end // SEGMENT_BYTES:
                return segment_name(parent, number)
        return segment_name(self.number, number)

    def goes_through(self, timeline: int, lsn: int) -> bool:
        """Tell whether a byte of the log, as some timeline has it, is this one's too."""
        ends = [end for parent, end in self.parents if parent == timeline]
        return timeline == self.number or any(lsn <= end for end in ends)


class WalSource:
    """The files that a restore can draw on: in an archive, or left in a cluster's `pg_wal`."""

    def __init__(self, archive: Path, unarchived: Path | None = None, system: str = "") -> None:
        """Look at the folders, which need not be there; of what is left, take what is whole."""
        self._paths: dict[str, Path] = {}
        for path in _files(unarchived):
            if _is_history(path.name) or (_is_wal(path.name) and _belongs(path, system)):
                self._paths[path.name] = path
        for path in _files(archive):
            if path.suffix == _GZIP and _is_wal(path.stem):
                self._paths[path.stem] = path

    def timeline_at(self, timestamp: datetime | None) -> Timeline:
        """Give the timeline that the database was on at a moment, or is on now.

        That is by the clock: what was undone by a later restore is still there to be restored.
        """
        begun = [line for line in self._timelines() if not timestamp or _begins(line) <= timestamp]
        return max(begun, key=lambda line: line.number, default=Timeline(1, None, ()))

    def chain(self, first: str, timeline: Timeline) -> list[str]:
        """List the files from the first one on, without a gap, as a timeline has them."""
        number = segment_number(first)
        names = []
        while (name := timeline.segment_at(number)) in self._paths:
            names.append(name)
            number += 1
        return names

    def is_archived(self, name: str) -> bool:
        """Tell whether a file is in the archive, and not merely left in a cluster."""
        return name in self._paths and self._paths[name].suffix == _GZIP

    def after_gap(self, chain: list[str], timeline: Timeline) -> str:
        """Name an archived file of a timeline that comes after the end of a chain, if any."""
        last = segment_number(chain[-1])
        later = (
            name
            for name in sorted(self._paths)
            if not _is_history(name)
            and self.is_archived(name)
            and segment_number(name) > last
            and timeline.segment_at(segment_number(name)) == name
        )
        return next(later, "")

    def timestamp(self, name: str) -> datetime:
        """Give when PostgreSQL wrote to a file last; it holds all changes before that."""
        path = self._paths[name]
        seconds = path.stat().st_mtime
        if path.suffix == _GZIP:
            with path.open("rb") as file:  # what gzip noted, in whole seconds, outlives a copy
                noted: int = struct.unpack("<4xI", file.read(8))[0]
            if noted and int(seconds) != noted:
                seconds = noted
        return datetime.fromtimestamp(seconds, UTC)

    def is_whole(self, name: str) -> bool:
        """Tell whether an archived file can be read to its end, and is what was archived."""
        try:
            return sum(map(len, _decompressed(self._paths[name]))) == SEGMENT_BYTES
        except zlib.error:
            return False

    def _timelines(self) -> Iterator[Timeline]:
        yield Timeline(1, None, ())
        for name, path in self._paths.items():
            if _is_history(name):
                lines = [line.split() for line in _content(path).decode("ascii").splitlines()]
                parents = tuple(
                    (int(words[0]), parse_lsn(words[1]))
                    for words in lines
                    if words and words[0].isdecimal()
                )
                yield Timeline(int(name[:8], 16), self.timestamp(name), parents)


def remove_wal_before(archive: Path, first: str) -> None:
    """Remove from an archive what comes before a file in the log, but no history."""
    for path in archive.iterdir():
        name = path.name[:24]
        is_old = _is_wal(name) and segment_number(name) < segment_number(first)
        is_leftover = path.suffix == ".partial" and time() - path.stat().st_mtime > 3600
        if is_old or is_leftover:
            path.unlink(missing_ok=True)


def _is_wal(name: str) -> bool:
    stem = name.removesuffix(_HISTORY)
    length = 24 if stem == name else 8
    return len(stem) == length and all(sign in "0123456789ABCDEF" for sign in stem)


def _is_history(name: str) -> bool:
    return _is_wal(name) and name.endswith(_HISTORY)


def _files(folder: Path | None) -> list[Path]:
    return [*folder.iterdir()] if folder and folder.is_dir() else []


def _belongs(path: Path, system: str) -> bool:
    """Tell whether a file of WAL is this system's, and not an old one waiting for its new use."""
    with path.open("rb") as file:
        header = file.read(32)  # XLogLongPageHeaderData
    if len(header) < 32:
        return False
    timeline, address, found = struct.unpack("=4xIQ8xQ", header)
    return (
        str(found) == system
        and address == segment_number(path.name) * SEGMENT_BYTES
        and (timeline <= int(path.name[:8], 16))
    )


def _begins(timeline: Timeline) -> datetime:
    return timeline.begun or datetime.min.replace(tzinfo=UTC)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path)).replace("%", "%%")


def _content(path: Path) -> bytes:
    return b"".join(_decompressed(path)) if path.suffix == _GZIP else path.read_bytes()


def _decompressed(path: Path) -> Iterator[bytes]:
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 16)  # of gzip, its checksum included
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield decompressor.decompress(block)
    yield decompressor.flush()
    if not decompressor.eof:
        raise zlib.error("the end is missing")
