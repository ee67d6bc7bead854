"""Joins screenshots into an animated PNG (PNG specification, third edition: acTL, fcTL and fdAT).

A viewer without support shows the first frame.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

SIGNATURE = b"\x89PNG\r\n\x1a\n"
OVERWRITE = (0, 0)  # keeps the previous frame, and replaces the frame's own area


@dataclass(frozen=True)
class Frame:
    """A PNG, its position in the first frame in pixels, and its duration in milliseconds."""

    png: bytes
    milliseconds: int
    left: int = 0
    top: int = 0


def join_frames(frames: list[Frame]) -> bytes:
    """Return a PNG that shows the frames in a loop; the first frame has the full size."""
    numbers = count()
    first = dict(_read_chunks(frames[0].png))
    parts = [SIGNATURE, _chunk(b"IHDR", first[b"IHDR"])]
    parts.append(_chunk(b"acTL", struct.pack(">II", len(frames), 0)))  # 0: loop forever
    for place, frame in enumerate(frames):
        chunks = [*_read_chunks(frame.png)]
        header = chunks[0][1]
        if header[8:] != first[b"IHDR"][8:]:
            raise ValueError("the frames differ in their kind of colors")
        control = struct.pack(">I", next(numbers)) + header[:8]
        control += struct.pack(">IIHH", frame.left, frame.top, frame.milliseconds, 1000)
        parts.append(_chunk(b"fcTL", control + bytes(OVERWRITE)))
        for data in (data for kind, data in chunks if kind == b"IDAT"):
            if place == 0:
                parts.append(_chunk(b"IDAT", data))
            else:
                parts.append(_chunk(b"fdAT", struct.pack(">I", next(numbers)) + data))
    return b"".join([*parts, _chunk(b"IEND", b"")])


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def _read_chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the data of each chunk."""
    position = len(SIGNATURE)
    while position < len(png):
        (length,) = struct.unpack_from(">I", png, position)
        yield png[position + 4 : position + 8], png[position + 8 : position + 8 + length]
        position += 12 + length
