"""What a page's console has that nobody meant."""

import re

from playwright.sync_api import ConsoleMessage, Error, Page

# Chromium's messages about the error responses of some states, and about blocked requests.
_MEANT = re.compile(
    r"Failed to load resource: (the server responded with a status of [45]\d\d|net::ERR_FAILED).*"
)


class PageConsole:
    """The errors and warnings of a page: of its scripts, its CSP and its resources.

    Lines of other levels are remarks of a browser. Chromium has one for a field that got the focus
    before `autofocus` gave it, as from the script or by somebody who types at once.
    """

    def __init__(self, page: Page) -> None:
        self._page = page
        self.complaints: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", self._hear_exception)

    def end(self) -> None:
        """Stop listening to the page."""
        self._page.remove_listener("console", self._hear)
        self._page.remove_listener("pageerror", self._hear_exception)

    def _hear(self, message: ConsoleMessage) -> None:
        line = f"{message.text} ({message.location['url']})"
        if message.type in {"error", "warning"} and not _MEANT.fullmatch(line):
            self.complaints.append(line)

    def _hear_exception(self, error: Error) -> None:
        self.complaints.append(str(error))
