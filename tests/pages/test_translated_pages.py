"""Pages are in the language that the browser prefers; the API is in English."""

from urllib.parse import quote

import pytest

from handlers.pages.base import PageHandler
from handlers.rendering.languages import LANGUAGES, Language
from handlers.web.application import Application
from taskapp.core.errors import Invalid
from taskapp.core.messages import Message
from tests.support.clients import ApiClient
from tests.support.page_client import ALICE, HOSTILE, PASSWORD, PageClient

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test
ACCOUNT = {"email": ALICE, "password": PASSWORD}


@pytest.mark.parametrize(
    ("header", "code", "words"),
    [
        ({"Accept-Language": "de-AT,de;q=0.9,en;q=0.5"}, "de", "Anmelden · taskapp"),
        ({"Accept-Language": "fr, en;q=0.5"}, "en", "Log in · taskapp"),
        ({"Accept-Language": "de;q=0"}, "en", "Log in · taskapp"),
        ({"Accept-Language": "\xff"}, "en", "Log in · taskapp"),
        ({}, "en", "Log in · taskapp"),
    ],
)
async def test_a_page_is_in_the_language_that_the_browser_asks_for(
    visitor: PageClient, header: dict[str, str], code: str, words: str
) -> None:
    visitor.headers = header
    page = await visitor.open("/login")
    assert page.text.startswith(words)
    assert page.tags("html")[0]["lang"] == page.headers["Content-Language"] == code
    assert "Accept-Language" in page.headers["Vary"].split(", ")


async def test_german_is_spoken_from_the_account_to_the_last_task(visitor: PageClient) -> None:
    visitor.headers = {"Accept-Language": "de"}
    await visitor.open("/register")
    page = await visitor.submit("Konto erstellen", email="", password="x" * 1257)
    assert page.text.startswith("Fehler: Registrieren · taskapp")
    assert page.error_beside("Konto erstellen", "email") == "Pflichtfeld"
    assert "aktuell 1.257" in page.error_beside("Konto erstellen", "password")
    page = await visitor.submit("Konto erstellen", **ACCOUNT)
    assert page.flash_message == "Konto erstellt. Melde dich an, um loszulegen."
    await visitor.submit("Anmelden", **ACCOUNT)
    page = await visitor.submit("Hinzufügen", title="Milch kaufen")
    assert (page.flash_message, page.titles) == ("Aufgabe hinzugefügt.", ["Milch kaufen"])
    assert "gerade eben" in page.text
    page = await visitor.submit("Aufgaben hinzufügen", titles="Brot\nButter")
    assert page.flash_message == "2 Aufgaben hinzugefügt."
    page = await visitor.submit("Aufgaben hinzufügen", titles="")
    assert page.error_beside("Aufgaben hinzufügen", "titles") == "Gib mindestens eine Aufgabe ein"
    page = await visitor.submit("Butter")
    assert page.flash_message == "Aufgabe erledigt. Rückgängig"
    page = await visitor.submit("Abmelden")
    assert page.flash_message == "Du wurdest abgemeldet."


@pytest.mark.parametrize("path", ["/tasks", "/auth/login", "/nowhere"])
async def test_the_api_speaks_english_whatever_is_asked_for(api: ApiClient, path: str) -> None:
    asked: dict[str, str]
    responses = []
    for asked in ({}, {"Accept-Language": "de"}):
        response = await api.post(f"/api{path}", {"email": 1}, headers=asked)
        assert "Content-Language" not in response.headers
        responses.append({**response.json, "requestId": ""})
    assert responses[0] == responses[1]
    assert responses[0]["title"] in {"Not logged in", "Invalid data", "Not found"}


async def test_the_description_of_the_api_is_in_english(visitor: PageClient) -> None:
    visitor.headers = {"Accept-Language": "de"}
    page = await visitor.open("/api/docs")
    assert page.tags("html")[0]["lang"] == page.headers["Content-Language"] == "en"


class Echo(PageHandler):
    """Rejects every request with a text that the client chose."""

    is_public = True

    async def get(self) -> None:
        value = self.read_query("value")
        raise Invalid({value: Message("%(name)s must be sent only once.", name=value)})


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=str)
@pytest.mark.parametrize("value", [*HOSTILE, "100 % &amp; %(name)s ⟦"])
async def test_a_value_in_a_sentence_is_seen_as_it_was_sent(
    app: Application, visitor: PageClient, language: Language, value: str
) -> None:
    app.add_handlers(".*", [("/echo", Echo)])
    visitor.headers = {"Accept-Language": language.code}
    page = await visitor.open(f"/echo?value={quote(value)}")
    sentence = Message("%(name)s must be sent only once.", name=value)
    assert language.translate(sentence) in page.text
    assert (page.tags("svg"), len(page.tags("script"))) == ([], 1)


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=str)
async def test_an_address_in_a_sentence_is_seen_as_it_is(
    visitor: PageClient, language: Language
) -> None:
    visitor.headers = {"Accept-Language": language.code}
    account = {"email": "{{7*7}}%s&quot'@example.com", "password": PASSWORD}
    for path in ("/register", "/login"):
        await visitor.open(path)
        await visitor.follow(await visitor.fetch("POST", path, visitor.csrf_field | account))
    sentence = Message("Logged in as %(email)s", email=account["email"])
    assert language.translate(sentence) in visitor.page.text
