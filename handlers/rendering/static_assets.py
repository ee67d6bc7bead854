"""The files of static/, each read, hashed and compressed once, when it is first needed."""

import gzip
import hashlib
from functools import cached_property
from pathlib import Path

import brotli
import rjsmin

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


class StaticFile:
    """A file as it was when it was first requested."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.content_type = TYPES[path.suffix]

    @cached_property
    def content(self) -> bytes:
        """Return the bytes of the file; a script without comments and spaces between its tokens."""
        content = self._path.read_bytes()
        if self._path.suffix == ".js":
            content = rjsmin.jsmin(content)
        return content

    @cached_property
    def digest(self) -> str:
        """Return the beginning of the content's SHA-256, 16 hexadecimal digits."""
        return hashlib.sha256(self.content).hexdigest()[:16]

    @cached_property
    def codings(self) -> dict[str, bytes]:
        """Return the content in each coding that makes it smaller, and as identity, best first."""
        if self._path.suffix not in TEXTS:
            return {"identity": self.content}
        coded = {
            "br": brotli.compress(self.content, quality=11),
            "gzip": gzip.compress(self.content, 9, mtime=0),
        }
        smaller = {coding: text for coding, text in coded.items() if len(text) < len(self.content)}
        return smaller | {"identity": self.content}


def list_files(folder: Path) -> dict[str, StaticFile]:
    """Return the files of a folder that have a known type and are not hidden, by name."""
    return {
        path.name: StaticFile(path)
        for path in folder.iterdir()
        if path.suffix in TYPES and not path.name.startswith(".")
    }


FILES = list_files(FOLDER)


def digest(name: str) -> str:
    """Return the digest of a file's content, which pages put into its URL.

    Raises:
        KeyError: there is no such file.
    """
    return FILES[name].digest
