"""The files of static/, each read, digested and compressed once, when it is first needed."""

import gzip
import hashlib
import re
from collections.abc import Collection
from functools import cached_property, lru_cache
from pathlib import Path

import brotli

from taskapp.config.installation import HOME

FOLDER = HOME / "static"
TEXTS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}
TYPES = TEXTS | {".png": "image/png"}
_MAX_HEADER_LENGTH = 1000  # characters of Accept-Encoding; browsers send fewer
_PREFERENCE = re.compile(
    r"\s*(?P<coding>[^\s;,=]+)\s*(?:;\s*[qQ]=(?P<weight>0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*)?"
)


class StaticFile:
    """A file as it was when it was first asked for."""

    def __init__(self, path: Path) -> None:
        """Take the path, and read nothing yet."""
        self._path = path
        self.content_type = TYPES[path.suffix]

    @cached_property
    def content(self) -> bytes:
        """Read the file."""
        return self._path.read_bytes()

    @cached_property
    def digest(self) -> str:
        """Give what changes with the content, in 16 hexadecimal digits."""
        return hashlib.sha256(self.content).hexdigest()[:16]

    @cached_property
    def codings(self) -> dict[str, bytes]:
        """Give the content in every coding that makes it smaller, and as it is; the best first."""
        if self._path.suffix not in TEXTS:
            return {"identity": self.content}
        made = {
            "br": brotli.compress(self.content, quality=11),
            "gzip": gzip.compress(self.content, 9, mtime=0),
        }
        smaller = {coding: text for coding, text in made.items() if len(text) < len(self.content)}
        return smaller | {"identity": self.content}


def list_files(folder: Path) -> dict[str, StaticFile]:
    """List the files of a folder that are of a known type and not hidden, by their names."""
    return {
        path.name: StaticFile(path)
        for path in folder.iterdir()
        if path.suffix in TYPES and not path.name.startswith(".")
    }


FILES = list_files(FOLDER)


def digest(name: str) -> str:
    """Give the digest of a file's content, for the address by which pages name it.

    Raises:
        KeyError: there is no such file.
    """
    return FILES[name].digest


def negotiate_encoding(accepted: str, codings: Collection[str]) -> str:
    """Choose what an Accept-Encoding header likes most, of equals the first (RFC 9110, 12.5.3)."""
    if len(accepted) > _MAX_HEADER_LENGTH:
        return "identity"
    return _negotiate_encoding(accepted, tuple(codings))


@lru_cache(maxsize=100)
def _negotiate_encoding(accepted: str, codings: tuple[str, ...]) -> str:
    weights = _read_weights(accepted)
    likings = {coding: weights.get(coding, weights.get("*", 0)) for coding in codings}
    best = max(likings, key=likings.__getitem__)
    return best if likings[best] > 0 else "identity"


def _read_weights(accepted: str) -> dict[str, float]:
    items = [match for item in accepted.split(",") if (match := _PREFERENCE.fullmatch(item))]
    return {item["coding"].lower(): float(item["weight"] or 1) for item in items}
