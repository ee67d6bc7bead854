"""The start page, and the static files."""

from typing import Any

from tornado.web import StaticFileHandler

from handlers.pages import PageHandler
from handlers.rendering import STATIC


class HomePage(PageHandler):
    """The address without a path: the tasks, or the login page for a stranger."""

    is_public = True

    async def get(self) -> None:
        """Send the browser on."""
        self.go("/tasks" if self.owner is not None else "/login")


class StaticFiles(PageHandler, StaticFileHandler):
    """The files of static/, for ever once their name carries the digest of their content."""

    is_public = True

    def initialize(self, route: str = "(none)") -> None:  # type: ignore[override]  # one folder
        """Take the route's pattern."""
        PageHandler.initialize(self, route)
        StaticFileHandler.initialize(self, str(STATIC))

    async def head(self, path: str) -> None:  # type: ignore[override]  # a file's, not a task's
        """Answer as GET does, without the body."""
        await StaticFileHandler.get(self, path, include_body=False)

    def compute_etag(self) -> str | None:
        """Give the digest of the file."""
        return StaticFileHandler.compute_etag(self)

    def set_extra_headers(self, path: str) -> None:
        """Say how long the file may be kept; nothing in it is anybody's."""
        del path
        age = "max-age=31536000, immutable" if self.query("v") else "max-age=300"
        self.set_header("Cache-Control", f"public, {age}")

    def read_session(self) -> Any:
        """Ask for no session: a file is the same for all."""
        return None


class RobotsFile(StaticFiles):
    """/robots.txt: what search engines may read."""

    async def get(self) -> None:  # type: ignore[override]  # one file, so no path
        """Give the file."""
        await StaticFiles.get(self, "robots.txt")

    async def head(self) -> None:  # type: ignore[override]  # one file, so no path
        """Answer as GET does, without the body."""
        await StaticFiles.head(self, "robots.txt")
