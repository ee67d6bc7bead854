"""A client of the pages that works as a browser without scripts does.

It keeps cookies, reads forms out of the HTML, fills them in and sends them.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from http.cookies import Morsel, SimpleCookie
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from tornado.httpclient import HTTPResponse

PASSWORD = "SecurePass123!"


@dataclass
class Form:
    """A form of a page: where it goes, and its fields as they stand."""

    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[str] = field(default_factory=list)
    described: dict[str, list[str]] = field(default_factory=dict)
    invalid: set[str] = field(default_factory=set)


class _Reader(HTMLParser):
    """Reads what a browser would: forms, links, texts by id, and the whole text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[Form] = []
        self.links: list[tuple[str, str]] = []
        self.references: list[str] = []
        self.texts: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[tuple[str, dict[str, str], int]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        self.references += [found[name] for name in ("href", "action", "src") if name in found]
        if tag == "form":
            self.forms.append(Form(found.get("method", "get").upper(), found.get("action", "")))
        if tag in {"input", "textarea", "button", "fieldset"} and self.forms:
            self._read_field(tag, found)
        if tag not in {"input", "meta", "link"}:
            self._open.append((tag, found, len(self.text)))

    def _read_field(self, tag: str, found: dict[str, str]) -> None:
        form, name = self.forms[-1], found.get("name", "")
        if found.get("aria-describedby"):
            form.described[name or "status"] = found["aria-describedby"].split()
        if found.get("aria-invalid"):
            form.invalid.add(name or "status")
        is_unchecked = found.get("type") == "radio" and "checked" not in found
        if tag == "input" and name and not is_unchecked:
            form.fields[name] = found.get("value", "")
        if tag == "button" and name:
            form.fields[name] = found.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        name, found, begin = self._open.pop()
        assert name == tag, f"<{name}> is closed by </{tag}>"
        text = self.text[begin:]
        if "id" in found:
            self.texts[found["id"]] = text.strip()
        if tag == "textarea":
            self.forms[-1].fields[found["name"]] = text.removeprefix("\n")
        if tag == "button" and self.forms:
            self.forms[-1].buttons.append(found.get("aria-label") or text.strip())
        if tag == "a":
            self.links.append((found.get("aria-label") or text.strip(), found["href"]))

    def handle_data(self, data: str) -> None:
        self.text += data


class Page:
    """A page that was answered."""

    def __init__(self, response: HTTPResponse, address: str) -> None:
        self.status = response.code
        self.headers = response.headers
        self.html = (response.body or b"").decode("utf-8")
        self.address = address
        self.location = response.headers.get("Location", "")
        is_html = response.headers.get("Content-Type", "").startswith("text/html")
        self._read = _Reader(self.html if is_html else "")
        assert not self._read._open, "an element is not closed"  # noqa: SLF001  # our own class

    @property
    def text(self) -> str:
        """The text that is seen, with runs of white space as one space."""
        return " ".join(self._read.text.split())

    @property
    def references(self) -> list[str]:
        """Every address that the page names."""
        return self._read.references

    @property
    def ids(self) -> dict[str, str]:
        """The texts of all elements with an id."""
        return self._read.texts

    def tags(self, name: str) -> list[dict[str, str]]:
        """The attributes of all elements of a name."""
        return [found for tag, found in self._read.tags if tag == name]

    def form(self, button: str) -> Form:
        """The form with this button."""
        found = [form for form in self._read.forms if button in form.buttons]
        assert len(found) == 1, f"{len(found)} forms have a button {button!r}: {self.text}"
        return found[0]

    def has_form(self, button: str) -> bool:
        """Tell whether there is a form with this button."""
        return any(button in form.buttons for form in self._read.forms)

    def link(self, label: str) -> str:
        """The address behind a link."""
        found = [href for name, href in self._read.links if name == label]
        assert found, f"no link {label!r} in {self.text}"
        return found[0]

    def has_link(self, label: str) -> bool:
        """Tell whether there is such a link."""
        return any(name == label for name, _ in self._read.links)

    def error_beside(self, button: str, name: str) -> str:
        """The message that is tied to a field of a form, or nothing."""
        form = self.form(button)
        ids = [each for each in form.described.get(name, []) if each.endswith("-error")]
        assert bool(ids) == (name in form.invalid)
        return self._read.texts[ids[0]] if ids else ""

    @property
    def titles(self) -> list[str]:
        """The titles of the tasks in the list, from the first to the last."""
        return [tag["aria-label"] for tag in self.tags("button") if tag.get("role") == "checkbox"]

    def is_checked(self, title: str) -> bool:
        """Tell whether the checkbox of a task is checked."""
        found = [tag for tag in self.tags("button") if tag.get("aria-label") == title]
        return found[0]["aria-checked"] == "true"


class PageClient:
    """One visitor with a browser: remembers cookies, and the page that is open."""

    def __init__(self, http_client: Any, base_url: str) -> None:
        self.http_client = http_client
        self.base_url = base_url
        self.cookies: dict[str, str] = {}
        self.morsels: dict[str, Morsel[str]] = {}
        self.headers: dict[str, str] = {}  # what a test makes the browser say besides
        self.page: Page

    async def fetch(
        self,
        method: str,
        address: str,
        fields: dict[str, str] | list[tuple[str, str]] | bytes | None = None,
    ) -> Page:
        """Send a request and remember what came; follow nothing."""
        body = fields if isinstance(fields, bytes | None) else urlencode(fields).encode("ascii")
        sent = {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        url = urljoin(self.base_url, address)
        response = await self.http_client.fetch(
            url,
            method=method,
            body=body,
            headers=sent | self.headers,
            raise_error=False,
            follow_redirects=False,
            allow_nonstandard_methods=True,
        )
        self._take_cookies(response)
        self.page = Page(response, address)
        return self.page

    async def open(self, address: str) -> Page:
        """Open an address, and follow where it leads within the site."""
        page = await self.fetch("GET", address)
        return await self.follow(page)

    async def follow(self, page: Page) -> Page:
        """Go where a page leads, as a browser does."""
        for _ in range(5):
            if page.status != 303:
                return page
            assert page.location.startswith("/"), page.location
            page = await self.fetch("GET", page.location)
        raise AssertionError(f"it leads round in a circle: {page.location}")

    async def send(self, button: str, **changes: str | None) -> Page:
        """Fill in the form with this button and send it; None leaves a field out."""
        form = self.page.form(button)
        wanted = form.fields | changes
        # A browser sends every line end as CR LF (HTML, 4.10.22.4).
        fields = {
            name: value.replace("\n", "\r\n") for name, value in wanted.items() if value is not None
        }
        address = form.action or urlsplit(self.page.address).path
        return await self.fetch(form.method, address, fields)

    async def submit(self, button: str, **changes: str | None) -> Page:
        """Send a form, and follow where it leads."""
        return await self.follow(await self.send(button, **changes))

    async def sign_up(self, email: str, password: str = PASSWORD) -> Page:
        """Register by the form."""
        await self.open("/register")
        return await self.submit("Make my account", email=email, password=password)

    async def log_in(self, email: str, password: str = PASSWORD) -> Page:
        """Log in by the form."""
        await self.open("/login")
        return await self.submit("Log in", email=email, password=password)

    async def add_task(self, title: str, description: str = "") -> Page:
        """Add a task by the form."""
        await self.open("/tasks")
        return await self.submit("Add", title=title, description=description)

    def _take_cookies(self, response: HTTPResponse) -> None:
        now = datetime.now(UTC)
        for line in response.headers.get_list("Set-Cookie"):
            for name, morsel in SimpleCookie(line).items():
                self.morsels[name] = morsel
                if morsel["expires"] and parsedate_to_datetime(morsel["expires"]) < now:
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
