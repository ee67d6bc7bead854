"""The names of WAL segments and timelines, and where in the WAL they lie.

A segment is named by its timeline and its number: 00000001 00000000 0000002A. A restore begins a
new timeline, and leaves its history file; what the old one had after the fork remains.
"""

from dataclasses import dataclass
from datetime import datetime

SEGMENT_BYTES = 16 * 1024 * 1024  # initdb's default
_SEGMENTS_OF_A_LOG = 2**32 // SEGMENT_BYTES
_HISTORY = ".history"


def segment_number(name: str) -> int:
    """Return the number of a segment, counted from the beginning of the WAL."""
    return int(name[8:16], 16) * _SEGMENTS_OF_A_LOG + int(name[16:24], 16)


def segment_name(timeline: int, number: int) -> str:
    """Return the name of the segment of a timeline with a number."""
    log, segment = divmod(number, _SEGMENTS_OF_A_LOG)
    return f"{timeline:08X}{log:08X}{segment:08X}"


def timeline_of(name: str) -> int:
    """Return the timeline of a segment or a history file."""
    return int(name[:8], 16)


def parse_lsn(text: str) -> int:
    """Return the byte of the WAL that an LSN such as 0/2A000028 stands for."""
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def format_lsn(lsn: int) -> str:
    """Return an LSN as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:08X}"


def is_wal(name: str) -> bool:
    """Return whether a name is a segment's or a history file's."""
    stem = name.removesuffix(_HISTORY)
    length = 24 if stem == name else 8
    return len(stem) == length and all(sign in "0123456789ABCDEF" for sign in stem)


def is_history(name: str) -> bool:
    """Return whether a name is a history file's."""
    return is_wal(name) and name.endswith(_HISTORY)


@dataclass(frozen=True)
class Timeline:
    """A timeline: when it began, and at which LSN those before it ended."""

    number: int
    begun: datetime | None  # the first one began with the cluster
    parents: tuple[tuple[int, int], ...]  # timeline, and the LSN at which it was left

    def segment_at(self, number: int) -> str:
        """Return the name of the segment that this timeline has under a number."""
        for parent, end in self.parents:
            if number < end // SEGMENT_BYTES:
                return segment_name(parent, number)
        return segment_name(self.number, number)

    def goes_through(self, timeline: int, lsn: int) -> bool:
        """Return whether an LSN, as some timeline has it, is on this one too."""
        ends = [end for parent, end in self.parents if parent == timeline]
        return timeline == self.number or any(lsn <= end for end in ends)
