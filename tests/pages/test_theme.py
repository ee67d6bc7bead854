"""The theme is light, dark or the system's, kept in a cookie for every page."""

import pytest

from tests.support.api_tools import with_settings
from tests.support.clients import ApiClient
from tests.support.page_client import ALICE, FROM_ELSEWHERE, PASSWORD, PageClient, cookie_name
from tests.support.page_reader import Page

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test
MAX_AGE = 400 * 24 * 60 * 60  # seconds that a browser keeps a cookie (RFC 6265bis, 5.5)
BUTTONS = {"System": "", "Light": "light", "Dark": "dark"}


def shown(page: Page) -> str:
    """Return the theme of a page, which is in three places of it."""
    theme = page.tags("html")[0].get("data-theme", "")
    (scheme,) = [tag["content"] for tag in page.tags("meta") if tag.get("name") == "color-scheme"]
    assert scheme == (theme or "light dark")
    pressed = {
        tag["value"]: tag["aria-pressed"]
        for tag in page.tags("button")
        if tag.get("name") == "theme"
    }
    assert pressed == {value: str(value == theme).lower() for value in BUTTONS.values()}
    return theme


async def test_a_choice_is_kept_on_every_page_until_it_is_changed(
    visitor: PageClient, alice: ApiClient
) -> None:
    assert shown(await visitor.open("/login")) == ""
    for label, theme in [*BUTTONS.items(), *reversed(BUTTONS.items())]:
        page = await visitor.submit(label)
        assert (page.address, shown(page)) == ("/login#theme", theme)
        assert visitor.cookies.get(cookie_name("theme"), "") == theme
        for address in ("/register", "/nowhere", "/api/docs"):
            assert shown(await visitor.open(address)) == theme
        await visitor.open("/login")


async def test_a_choice_outlives_login_and_logout(visitor: PageClient, alice: ApiClient) -> None:
    await visitor.open("/login")
    await visitor.submit("Dark")
    pages = [await visitor.submit("Log in", email=ALICE, password=PASSWORD)]
    pages += [await visitor.submit("Add", title="Buy milk"), await visitor.submit("Log out")]
    assert [shown(page) for page in pages] == ["dark"] * 3


async def test_the_pages_of_errors_have_the_theme_too(
    mine: PageClient, task: dict[str, str]
) -> None:
    await mine.open("/tasks")
    await mine.submit("Dark")
    pages = [await mine.send("Add", title=""), await mine.send("Add", title="x" * 300_000)]
    pages += [await mine.fetch("PUT", "/tasks", b""), await mine.open("/tasks?after=forged")]
    pages += [await mine.open("/nowhere"), await mine.fetch("POST", "/tasks", b"title=x")]
    assert [page.status for page in pages] == [400, 413, 405, 400, 404, 403]
    assert [shown(page) for page in pages] == ["dark"] * 6


async def test_the_cookie_is_kept_as_long_as_browsers_allow_and_read_by_no_script(
    visitor: PageClient,
) -> None:
    await visitor.open("/login")
    await visitor.send("Dark")
    cookie = visitor.morsels[cookie_name("theme")]
    assert (cookie.value, cookie["max-age"]) == ("dark", str(MAX_AGE))
    assert (cookie["path"], cookie["domain"], cookie["secure"]) == ("/", "", "")
    assert (cookie["httponly"], cookie["samesite"].lower()) == (True, "lax")


@with_settings(PUBLIC_URL="https://tasks.example.com")
async def test_behind_https_the_cookie_is_bound_to_the_host_and_to_https(
    visitor: PageClient,
) -> None:
    await visitor.open("/login")
    for label in ("Dark", "System"):
        page = await visitor.submit(label)
        cookie = visitor.morsels[cookie_name("theme", "__Host-taskapp")]
        assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")
        assert shown(page) == BUTTONS[label]
    visitor.cookies[cookie_name("theme")] = "dark"  # another host of the domain may have set it
    assert shown(await visitor.open("/login")) == ""


@pytest.mark.parametrize(
    "garbage", ["", "DARK", "dark light", "system", "<svg>", "%00", "é", "x" * 3000]
)
async def test_an_unknown_theme_is_no_choice(visitor: PageClient, garbage: str) -> None:
    visitor.cookies[cookie_name("theme")] = garbage.encode("utf-8").decode("latin-1")
    page = await visitor.open("/login")
    assert shown(page) == ""
    await visitor.submit("Dark")
    page = await visitor.submit("Dark", theme=garbage)
    assert shown(page) == ""
    assert cookie_name("theme") not in visitor.cookies


async def test_a_form_without_a_choice_means_the_system(visitor: PageClient) -> None:
    await visitor.open("/login")
    page = await visitor.submit("Dark")
    assert shown(await visitor.submit("Dark", theme=None)) == ""
    visitor.page = page
    assert (await visitor.send("Dark", next=None)).location == "/"


# Back to the page of the button


@pytest.mark.parametrize(
    "wanted",
    [
        *("//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example"),
        *("/\t/evil.example", "\t//evil.example", " //evil.example", "/\n/evil.example"),
        *("/\r\nSet-Cookie: taskapp-session=evil", "https://evil.example", "https:evil.example"),
        *(
            "javascript:alert(1)",
            "evil.example",
            "@evil.example",
            "",
            "/\0",
            "/\u2028/evil.example",
        ),
    ],
)
async def test_a_choice_never_leads_away_from_this_site(visitor: PageClient, wanted: str) -> None:
    await visitor.open("/login")
    response = await visitor.send("Dark", next=wanted)
    assert (response.status, response.location) == (303, "/")
    assert set(visitor.cookies) == {cookie_name("csrf"), cookie_name("theme")}


@with_settings(BASE_PATH="/sub")
async def test_below_a_base_path_a_choice_leads_back_and_nowhere_else(visitor: PageClient) -> None:
    for address in ("/sub/register", "/sub/login?next=%2Fsub%2Ftasks%3Fstatus%3Dpending"):
        await visitor.open(address)
        page = await visitor.submit("Dark")
        assert (page.address, shown(page)) == (f"{address}#theme", "dark")
    assert visitor.cookies[cookie_name("theme", "taskapp-sub")] == "dark"
    for wanted in ("/elsewhere", "/subway", "/sub", "//evil.example", ""):
        visitor.page = page
        assert (await visitor.send("Dark", next=wanted)).location == "/sub/"
    visitor.page = page
    response = await visitor.send("Dark", next="/sub//evil.example")
    assert response.location == "/sub//evil.example#theme"


async def test_a_choice_on_a_page_that_a_form_was_answered_with_leads_to_the_start(
    mine: PageClient,
) -> None:
    await mine.send("Add", title="")
    response = await mine.send("Dark")
    assert response.location == "/#theme"
    assert (await mine.follow(response)).address == "/tasks"


# Who may choose


@pytest.mark.parametrize("headers", [None, *FROM_ELSEWHERE])
async def test_no_other_site_chooses(visitor: PageClient, headers: dict[str, str] | None) -> None:
    await visitor.open("/login")
    visitor.headers = headers or {}
    page = await visitor.send("Dark", **({} if headers else {"csrf_token": None}))
    assert page.status == 403
    assert cookie_name("theme") not in visitor.cookies


async def test_opening_the_address_chooses_nothing(visitor: PageClient) -> None:
    page = await visitor.fetch("GET", "/theme?theme=dark")
    assert (page.status, page.headers["Allow"]) == (405, "OPTIONS, POST")
    assert cookie_name("theme") not in visitor.cookies


async def test_two_choices_at_once_are_none(visitor: PageClient) -> None:
    await visitor.open("/login")
    token = visitor.csrf_field["csrf_token"].encode("ascii")
    page = await visitor.fetch(
        "POST", "/theme", b"csrf_token=" + token + b"&theme=dark&theme=light"
    )
    assert page.status == 400
    assert cookie_name("theme") not in visitor.cookies
