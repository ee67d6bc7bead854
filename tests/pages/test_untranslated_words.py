"""No page has a word outside the catalogues, neither in its source nor as rendered."""

import re
from dataclasses import dataclass
from datetime import datetime
from gettext import NullTranslations
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, Template, nodes

from handlers.pages.base import PageHandler
from handlers.rendering.languages import ENGLISH, Language
from handlers.rendering.templates import Templates
from handlers.web.application import Application
from taskapp.forms.pasted_titles import MAX_TITLES
from tests.support.api_tools import with_settings
from tests.support.page_client import ALICE, PASSWORD, PageClient, cookie_name
from tests.support.page_reader import Page

CHECKOUT = Path(__file__).parents[2]
ACCOUNT = {"email": ALICE, "password": PASSWORD}
TOKEN = {"name": "1", "expires": "90", "password": PASSWORD}

# In the sources

READ_OUT = {"alt", "aria-description", "aria-label", "label", "placeholder", "summary", "title"}
READ_OUT |= {"data-copied"}  # what the script shows
# The program, the keys of its shortcuts, and a parameter that an error page names.
NAMES = {"taskapp", *"njkxez"}
FOR_MACHINES = {"light dark", "Authorization: Bearer"}
# Of a macro or a block, outside its tags.
ATTRIBUTES = re.compile(r'(aria-(describedby|invalid)|data-csrf-token)="\w*"')
HUMAN = re.compile(r"[A-Z][a-z]|[A-Za-z]{2} [A-Za-z]{2}|[a-z][.:!?…]$")
PAGES = sorted(set(CHECKOUT.glob("templates/*.html")) - {CHECKOUT / "templates/api_docs.html"})
JINJA = Environment(extensions=["jinja2.ext.i18n"], autoescape=True)


class SeenText(HTMLParser):
    """Collects the text of a page that is visible or read out."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.texts += [text for name, text in attrs if name in READ_OUT and text]
        if tag == "meta" and found.get("name") == "description":
            self.texts.append(found["content"] or "")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def words_beside_messages(source: str) -> set[str]:
    """Return the words of a template that no catalogue translates."""
    html = ""
    for _, kind, text in JINJA.lex(source):
        html += text if kind == "data" else "0" if kind == "variable_begin" else ""
    seen = SeenText(ATTRIBUTES.sub("", html)).texts
    words = {word for text in seen for word in re.findall(r"[^\W\d_]+", text)}
    tree = JINJA.parse(source)
    translated = {
        id(text)
        for call in tree.find_all(nodes.Call)
        if isinstance(call.node, nodes.Name) and call.node.name in {"_", "ngettext"}
        for text in call.find_all(nodes.Const)
    }
    literals = {text.value for text in tree.find_all(nodes.Const) if id(text) not in translated}
    return words | {text for text in literals if isinstance(text, str) and HUMAN.search(text)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_template_has_words_beside_messages(page: Path) -> None:
    assert words_beside_messages(page.read_text()) - NAMES - FOR_MACHINES == set()


@pytest.mark.parametrize(
    "source",
    [
        "<p>Buy</p>",
        "<title>{{ title }} · buy</title>",
        '<button aria-label="Buy {{ title }}"></button>',
        '<meta name="description" content="Buy">',
        '{% if x %}<input placeholder="{% if y %}Buy{% endif %}">{% endif %}',
        '{{ "Buy" if x else _("Sell") }}',
        '{% set word = "Buy" %}',
        '{{ field("title", "Buy it") }}',
        '{{ _("Sell") ~ "buy:" }}',
    ],
)
def test_a_word_that_was_forgotten_is_found(source: str) -> None:
    assert any("buy" in word.lower() for word in words_beside_messages(source))


# In the pages


class Brackets(NullTranslations):
    """A catalogue that puts every sentence in brackets."""

    def gettext(self, message: str) -> str:
        return f"⟦{message}⟧"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return f"⟦{msgid1 if n == 1 else msgid2}⟧"


@dataclass(frozen=True)
class Bracketed(Language):
    """A language that puts all its words in brackets."""

    @property
    def translations(self) -> NullTranslations:
        return Brackets()

    def format_datetime(self, text: str) -> str:
        return f"⟦{super().format_datetime(text)}⟧"

    def time_ago(self, text: str, now: datetime | None = None) -> str:
        return f"⟦{super().time_ago(text, now)}⟧"

    def duration(self, seconds: int) -> str:
        return f"⟦{super().duration(seconds)}⟧"


class Reader(PageClient):
    """Visits pages, and checks that each has no word outside brackets."""

    def __init__(self, http_client: Any, base_url: str) -> None:
        super().__init__(http_client, base_url)
        self.seen: set[str] = set()

    async def fetch(self, *args: Any, **more: Any) -> Page:
        page = await super().fetch(*args, **more)
        if page.status != 303:
            assert "⟦" in page.html
            assert words_beside_brackets(page) == set(), page.address
            self.seen.add(page.address.partition("?")[0])
        return page

    async def post(self, path: str, **fields: str) -> Page:
        """Send a form with a CSRF token, and follow where it leads."""
        return await self.follow(await self.fetch("POST", path, self.csrf_field | fields))


def words_beside_brackets(page: Page) -> set[str]:
    """Return the words of a page, visible or read out, that no catalogue has translated."""
    texts = "\n".join(SeenText(page.html).texts).replace(page.headers["X-Request-ID"], "")
    command = r"curl -H 'Authorization: Bearer (taskapp_\S+)' http\S+"
    texts = re.sub(rf"{command}|taskapp_\S{{20,}}", "", texts)  # a token, and what uses it
    while texts != (fewer := re.sub(r"⟦[^⟦⟧]*⟧", "", texts)):
        texts = fewer
    return set(re.findall(r"[^\W\d_]+", texts)) - NAMES


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Collect the names of the templates that are rendered."""
    names: set[str] = set()
    template = Templates.template

    def note(self: Templates, language: Language, name: str) -> Template:
        names.add(name)
        return template(self, language, name)

    monkeypatch.setattr(Templates, "template", note)
    return names


@pytest.fixture
def reader(
    http_client: Any, base_url: str, app: Application, monkeypatch: pytest.MonkeyPatch
) -> Reader:
    """Return a client that reads the pages in brackets."""
    monkeypatch.setattr(PageHandler, "language", Bracketed(ENGLISH.code, ENGLISH.locale))
    return Reader(http_client, base_url)


@pytest.mark.gen_test
async def test_a_stranger_sees_no_word_that_cannot_be_translated(reader: Reader) -> None:
    await reader.open("/login")
    await reader.open("/nowhere")
    await reader.open("/register")
    await reader.post("/register", email="1", password="1")
    await reader.post("/register", email="", password="1234567890")
    assert "⟦Account created" in (await reader.post("/register", **ACCOUNT)).html
    assert (await reader.post("/register", **ACCOUNT)).status == 409
    assert (await reader.post("/login", **ACCOUNT | {"password": "1"})).status == 401
    assert (await reader.fetch("POST", "/login", ACCOUNT)).status == 403
    assert (await reader.fetch("PUT", "/login", {})).status == 405
    assert (await reader.fetch("POST", "/login", b"1" * 300_000)).status == 413
    assert reader.seen == {"/login", "/nowhere", "/register"}


@pytest.mark.gen_test
async def test_an_owner_sees_no_word_that_cannot_be_translated(
    reader: Reader, used: set[str]
) -> None:
    await reader.open("/register")
    await reader.post("/register", **ACCOUNT)
    assert "⟦No tasks yet" in (await reader.post("/login", **ACCOUNT)).html
    await reader.post("/tasks", title="1", description="1 " * 200)
    page = await reader.post("/tasks/several", titles="2\n3")
    tasks = [f"/tasks/{row.id}" for row in page.rows]
    await reader.post("/tasks", title="", description="\0")
    await reader.post("/tasks/several", titles="")
    await reader.post("/tasks/several", titles="1\n" * (MAX_TITLES + 1))
    await reader.post("/tasks/several", titles="1" * 300)

    for status in ("pending", "completed", "bogus"):
        await reader.open(f"/tasks?status={status}")
    await reader.open("/tasks?status=pending&status=completed")
    await reader.open("/tasks?after=1")

    page = await reader.open(f"{tasks[0]}/edit")
    version = next(tag["value"] for tag in page.tags("input") if tag.get("name") == "version")
    changed = {"title": "4", "description": "", "version": version}
    assert (await reader.post(f"{tasks[0]}/edit", **changed | {"title": ""})).status == 400
    assert "⟦Task saved" in (await reader.post(f"{tasks[0]}/edit", **changed)).html
    assert (await reader.post(f"{tasks[0]}/edit", **changed | {"title": "5"})).status == 409

    for task in tasks:
        assert "⟦Undo" in (await reader.post(f"{task}/status", status="completed")).html
    await reader.open("/tasks?status=pending")
    await reader.post(f"{tasks[0]}/status", status="pending")
    await reader.post(f"{tasks[0]}/status", status="1")
    await reader.open(f"{tasks[0]}/delete")
    await reader.post(f"{tasks[0]}/delete")
    assert (await reader.open(f"{tasks[0]}/delete")).status == 404
    await reader.open("/tasks/completed/delete")
    await reader.post("/tasks/completed/delete", until="1")
    await reader.post("/tasks/completed/delete", until="2999-01-01T00:00:00Z")
    await reader.open("/tasks/completed/delete")

    await reader.open("/status")
    await reader.open("/account")
    assert "⟦Your new token" in (await reader.post("/account/tokens", **TOKEN)).html
    assert (await reader.post("/account/tokens", name="", expires="1")).status == 400
    await reader.post("/account/tokens", **TOKEN | {"name": "2", "expires": "never"})
    await reader.open("/account")
    wrong = {"current_password": "1", "new_password": PASSWORD}
    assert (await reader.post("/account/password", **wrong)).status == 400
    ends = [link for link in reader.page.links if link.endswith("/end")]
    assert (await reader.open("/account/sessions/1/end")).status == 404
    for question in (*ends, "/account/sessions/others/end", "/account/delete"):
        await reader.open(question)
        assert (await reader.post(question, password="1")).status == 400

    await reader.open("/tasks")
    assert (await reader.fetch("POST", "/tasks", {"title": "1"})).status == 403
    del reader.cookies[cookie_name("session")]
    kept = {"draft_action": "/tasks", "draft_title": "1", "draft_given": "yes"}
    assert (await reader.post("/tasks", title="1", description="1")).status == 401
    await reader.post("/login", **ACCOUNT, **kept)
    parts = {"base.html", "_forms.html", "_task.html"}  # which other templates use
    assert used == {page.name for page in PAGES} - parts


@pytest.mark.gen_test
@with_settings(REGISTRATION="closed", LOGIN_LIMIT="1/hour", PUBLIC_URL="https://tasks.example")
async def test_a_stranger_who_is_refused_sees_no_word_that_cannot_be_translated(
    reader: Reader,
) -> None:
    assert (await reader.open("/register")).status == 403
    await reader.open("/login")
    for status in (401, 429):
        page = await reader.post("/login", **ACCOUNT | {"password": "1"})
        assert page.status == status
    assert (await reader.fetch("POST", "/login", {"email": "1"})).status == 403
    assert "https://tasks.example" in reader.page.html
