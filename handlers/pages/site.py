"""The start page, the theme, and the static files."""

from handlers.pages.base import PageHandler, read_theme
from handlers.rendering.static_assets import FILES
from taskapp.core.errors import NotFound
from taskapp.operations.accounts import may_begin


class HomePage(PageHandler):
    """/: leads to the tasks, to the login page or, while there is no account, to register."""

    is_public = True

    async def get(self) -> None:
        """Redirect by whether the browser sends a session."""
        if self.session_token is not None:
            self.redirect_to("/tasks")
        elif await may_begin(self.services):
            self.redirect_to("/register")
        else:
            self.redirect_to("/login")


class ThemePage(PageHandler):
    """/theme: light, dark, or the system's own."""

    is_public = True
    takes_stale_forms = True

    async def post(self) -> None:
        """Keep the choice in a cookie, and lead back to the page, where the switch is."""
        sent = self.read_form("theme", "next")
        theme = read_theme(sent.get("theme"))
        if theme:
            self.set_site_cookie("theme", theme)
        else:
            self.remove_site_cookie("theme")
        path = self.local_path(sent.get("next", ""))
        self.redirect_to(f"{path}#theme" if path else "/")


class StaticFiles(PageHandler):
    """The files of static/, cached for a year at the address with the digest of their content."""

    is_public = True
    needs_database = False

    async def get(self, name: str) -> None:
        """Send a file, or 304 if the browser has it."""
        file = FILES.get(name)
        if file is None:
            raise NotFound
        is_current = self.read_query("v") == file.digest
        age = "max-age=31536000, immutable" if is_current else "max-age=300"
        self.cache_control = f"public, {age}"
        self.set_header("Content-Type", file.content_type)
        self.finish_encoded(file.digest, file.codings)

    def authenticate(self) -> None:
        """Return no session: a file is the same for all users."""


class RobotsFile(StaticFiles):
    """/robots.txt."""

    async def get(self, name: str = "robots.txt") -> None:
        """Send the file."""
        await super().get(name)
