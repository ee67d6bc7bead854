"""A client of the pages that works like a browser without scripts.

It keeps cookies, reads the forms of a page, fills them in and sends them.
"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookies import Morsel, SimpleCookie
from typing import Any
from urllib.parse import urldefrag, urlencode, urljoin

from tornado.httpclient import HTTPResponse

from taskapp.auth.signing import Signer
from tests.support.clients import ApiClient
from tests.support.environment import SECRET_KEY
from tests.support.page_reader import Page

PASSWORD = "SecurePass123!"
ALICE = "alice@example.com"
BOB = "bob@example.com"
FROM_ELSEWHERE = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]
HOSTILE = ['"><svg onload=alert(1)>', "{{7*7}}", "</title>", "<script>alert(1)</script>", "' OR 1"]


INSTANCE_MARK = Signer([SECRET_KEY]).instance_marks[0]


def cookie_name(purpose: str, start: str = "taskapp") -> str:
    """Return the name of a cookie of the application of a test."""
    return f"{start}-{INSTANCE_MARK}-{purpose}"


class PageClient:
    """A browser: keeps cookies, the open page and those before it."""

    def __init__(self, http_client: Any, base_url: str) -> None:
        self.http_client = http_client
        self.base_url = base_url
        self.cookies: dict[str, str] = {}
        self.morsels: dict[str, Morsel[str]] = {}
        self.headers: dict[str, str] = {}  # which a test adds to every request
        self.history: list[Page] = []
        self.page: Page

    async def fetch(
        self,
        method: str,
        address: str,
        fields: dict[str, str] | list[tuple[str, str]] | bytes | None = None,
    ) -> Page:
        """Send a request, keep and return the page; follow no redirect."""
        body = fields if isinstance(fields, bytes | None) else urlencode(fields).encode("ascii")
        sent = {"Accept-Encoding": "gzip, deflate, br, zstd"}
        if body is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        url = urljoin(self.base_url, address)
        response = await self.http_client.fetch(
            url,
            method=method,
            body=body,
            headers=sent | self.headers,
            decompress_response=False,  # the page does it
            raise_error=False,
            follow_redirects=False,
            allow_nonstandard_methods=True,
        )
        self._take_cookies(response)
        self.page = Page(response, address)
        self.history.append(self.page)
        return self.page

    async def open(self, address: str) -> Page:
        """Open an address, and follow its redirects within the site."""
        page = await self.fetch("GET", address)
        return await self.follow(page)

    async def follow(self, page: Page) -> Page:
        """Follow the redirects of a page, as a browser does."""
        for _ in range(5):
            if page.status != 303:
                return page
            assert page.location.startswith("/"), page.location
            page = await self.fetch("GET", page.location)
        raise AssertionError(f"too many redirects: {page.location}")

    async def send(self, label: str, **changes: str | None) -> Page:
        """Fill in the form with this button and press it; None omits a field."""
        form, button = self.page.form(label), self.page.button(label)
        wanted = form.fields | button.fields | changes
        # A browser sends every line end as CR LF (HTML, 4.10.22.4).
        fields = {
            name: value.replace("\n", "\r\n") for name, value in wanted.items() if value is not None
        }
        address = urldefrag(urljoin(self.page.address, button.action)).url
        return await self.fetch(form.method, address, fields)

    async def submit(self, label: str, **changes: str | None) -> Page:
        """Send a form, and follow its redirects."""
        return await self.follow(await self.send(label, **changes))

    async def sign_up(self, email: str, password: str = PASSWORD) -> Page:
        """Register by the form."""
        await self.open("/register")
        return await self.submit("Create account", email=email, password=password)

    async def log_in(self, email: str, password: str = PASSWORD) -> Page:
        """Log in by the form."""
        await self.open("/login")
        return await self.submit("Log in", email=email, password=password)

    async def add_task(self, title: str, description: str = "") -> Page:
        """Add a task by the form."""
        await self.open("/tasks")
        return await self.submit("Add", title=title, description=description)

    async def make_token(self, **fields: str) -> ApiClient:
        """Create an API token by the form, and return an API client that sends it."""
        await self.open("/account")
        sent = {"name": "Backup script", "password": PASSWORD, **fields}
        page = await self.submit("Create token", **sent)
        (text,) = re.findall(r">(taskapp_[^<]{20,})<", page.html)
        return ApiClient(self.http_client, self.base_url, {"Authorization": f"Bearer {text}"})

    @property
    def csrf_field(self) -> dict[str, str]:
        """Return the field with the CSRF token of the last page that had one."""
        page = next(page for page in reversed(self.history) if page.forms)
        return {"csrf_token": page.forms[0].fields["csrf_token"]}

    def _take_cookies(self, response: HTTPResponse) -> None:
        now = datetime.now(UTC)
        for line in response.headers.get_list("Set-Cookie"):
            for name, morsel in SimpleCookie(line).items():
                self.morsels[name] = morsel
                if morsel["expires"] and parsedate_to_datetime(morsel["expires"]) < now:
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value


async def titles(api: ApiClient) -> list[str]:
    """Return the titles of the stored tasks of a user, the newest first."""
    listed = await api.get("/api/tasks")
    return [task["title"] for task in listed.json["tasks"]]


async def stored(api: ApiClient, task: dict[str, str]) -> dict[str, str]:
    """Return a task as it is stored."""
    found: dict[str, str] = (await api.get(f"/api/tasks/{task['id']}")).json
    return found
