"""The pages on which people register, log in and log out, over real HTTP."""

import asyncio
from typing import Any

import pytest

from taskapp.core.errors import FormNotTrusted, Unavailable
from taskapp.services import Services
from tests.support.api_tools import NO_TASK, with_settings
from tests.support.clients import ApiClient
from tests.support.database_fixtures import execute
from tests.support.page_client import ALICE, FROM_ELSEWHERE, PASSWORD, PageClient, cookie_name

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test
SPACED = "  pä\tss wörd  "


async def test_a_stranger_is_led_from_the_start_to_the_login_page_once_there_is_an_account(
    visitor: PageClient, services: Services, empty_database: str
) -> None:
    async def start() -> tuple[int, str]:
        page = await visitor.fetch("GET", "/")
        return page.status, page.location

    assert await start() == (303, "/register")
    await visitor.sign_up(ALICE)
    assert await start() == (303, "/login")
    execute(empty_database, "UPDATE users SET email = NULL, email_as_typed = NULL")  # is closed
    assert await start() == (303, "/register")
    await services.database.close()
    status, location = await start()
    await services.database.open(services.settings.database_url)
    assert (status, location) == (503, "")


@with_settings(REGISTRATION="closed")
async def test_where_nobody_may_register_the_start_leads_to_the_login_page(
    visitor: PageClient,
) -> None:
    assert (await visitor.fetch("GET", "/")).location == "/login"


async def test_the_start_leads_a_user_who_is_logged_in_to_the_tasks(
    alice: ApiClient, visitor: PageClient
) -> None:
    await visitor.log_in(ALICE)
    assert (await visitor.fetch("GET", "/")).location == "/tasks"


async def test_registering_leads_to_the_login_page_with_a_flash_message(
    visitor: PageClient,
) -> None:
    await visitor.open("/register")
    response = await visitor.send("Create account", email=ALICE, password=PASSWORD)
    assert (response.status, response.location) == (303, "/login")
    page = await visitor.follow(response)
    assert page.flash_message == "Account created. Log in to get started."
    heading, form = page.html.index("<h1>"), page.html.index('action="/login"')
    assert heading < page.html.index('id="flash"') < form
    assert page.form("Log in").fields["email"] == ALICE
    assert [tag["name"] for tag in page.focused] == ["password"]
    assert page.form("Log in").described == {"password": ["flash-text"]}
    page = await visitor.open("/login")
    assert (page.flash_message, page.form("Log in").fields["email"]) == ("", "")
    assert [tag["name"] for tag in page.focused] == ["email"]


async def test_the_address_of_a_new_account_is_as_typed_and_in_no_address_and_no_log(
    visitor: PageClient, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = f"Ali{'x' * 60}@" + ".".join(["y" * 60] * 3) + ".example"
    await visitor.open("/register")
    response = await visitor.send("Create account", email=f" {typed} ", password=PASSWORD)
    assert response.location == "/login"
    page = await visitor.follow(response)
    assert page.form("Log in").fields["email"] == typed
    await visitor.submit("Log in", password=PASSWORD)
    assert visitor.page.address == "/tasks"
    assert "yyy" not in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "mallory@example.com", "Im1hbGxvcnki.x.y", "another"])
async def test_no_cookie_that_is_not_ours_fills_in_an_address(
    visitor: PageClient, services: Services, text: str
) -> None:
    if text == "another":
        text = services.signer.sign_undo(NO_TASK, "mallory@example.com")
    visitor.cookies[cookie_name("flash")] = f"registered.{text}"
    page = await visitor.open("/login")
    assert page.form("Log in").fields["email"] == ""
    has_our_form = "@" not in text
    assert page.flash_message == ("Account created. Log in to get started." if has_our_form else "")


async def test_logging_in_leads_to_the_tasks(alice: ApiClient, visitor: PageClient) -> None:
    await visitor.open("/login")
    response = await visitor.send("Log in", email=ALICE, password=PASSWORD)
    assert (response.status, response.location) == (303, "/tasks")
    assert "Logged in as alice@example.com" in (await visitor.follow(response)).text


@pytest.mark.parametrize(
    ("email", "password", "field", "message"),
    [
        ("", PASSWORD, "email", "Required"),
        ("no address", PASSWORD, "email", "Must be a valid email address"),
        ("alice@intranet", PASSWORD, "email", "must contain a dot"),
        (ALICE, "", "password", "Must be at least 8 characters"),
        (ALICE, "short", "password", "Must be at least 8 characters"),
        (ALICE, "x" * 257, "password", "Must be at most 256 characters (currently 257)"),
        (ALICE, "aaaaaaaaaaaa", "password", "This password is too easy to guess."),
        (ALICE, ALICE, "password", "This password is too easy to guess."),
    ],
)
async def test_a_refused_registration_keeps_the_address_and_says_why_beside_the_field(
    visitor: PageClient, email: str, password: str, field: str, message: str
) -> None:
    await visitor.open("/register")
    page = await visitor.send("Create account", email=email, password=password)
    assert page.status == 400
    assert page.text.startswith("Error: Register")
    assert message in page.error_beside("Create account", field)
    assert page.form("Create account").fields["email"] == email
    assert page.form("Create account").fields["password"] == ""


async def test_an_address_that_is_taken_is_refused_beside_the_field(
    alice: ApiClient, visitor: PageClient
) -> None:
    page = await visitor.sign_up("ALICE@example.com")
    assert page.status == 409
    assert "already exists" in page.error_beside("Create account", "email")
    assert page.form("Create account").fields["email"] == "ALICE@example.com"


async def test_the_password_hint_is_tied_to_its_field(visitor: PageClient) -> None:
    page = await visitor.open("/register")
    assert page.form("Create account").described["password"] == ["password-hint"]
    assert "At least 8 characters" in page.ids["password-hint"]


@pytest.mark.parametrize("email", ["o'neil&co@example.com", "jürgen@exämple.de", "a{{7*7}}@b.de"])
async def test_an_unusual_address_is_shown_as_it_is(visitor: PageClient, email: str) -> None:
    await visitor.sign_up(email)
    assert f"Logged in as {email}" in (await visitor.log_in(email)).text


@pytest.mark.parametrize(
    ("email", "password"), [(ALICE, "something else"), ("nobody@example.com", PASSWORD)]
)
async def test_a_wrong_password_and_an_unknown_address_look_the_same(
    alice: ApiClient, visitor: PageClient, email: str, password: str
) -> None:
    page = await visitor.log_in(email, password)
    assert page.status == 401
    assert page.text.startswith("Error: Log in")
    assert "The email address or password is incorrect." in page.text
    assert page.form("Log in").fields["email"] == email
    assert page.form("Log in").fields["password"] == ""
    assert cookie_name("session") not in visitor.cookies


@pytest.mark.parametrize(("email", "password"), [("", PASSWORD), (ALICE, "")])
async def test_a_login_without_a_field_says_so_beside_it(
    visitor: PageClient, email: str, password: str
) -> None:
    page = await visitor.log_in(email, password)
    assert page.status == 400
    field = "password" if email else "email"
    assert page.error_beside("Log in", field) == "Required"
    assert page.form("Log in").fields["email"] == email


# Passwords, exactly as typed


async def test_a_password_of_spaces_and_tabs_from_the_page_works_at_the_api(
    visitor: PageClient, api: ApiClient
) -> None:
    await visitor.sign_up(ALICE, SPACED)
    await api.log_in(ALICE, SPACED)
    for other_text in (SPACED.strip(), SPACED.replace("\t", " "), f"{SPACED} "):
        response = await api.post("/api/auth/login", {"email": ALICE, "password": other_text})
        assert response.status == 401


async def test_a_password_of_spaces_and_tabs_from_the_api_works_on_the_page(
    visitor: PageClient, api: ApiClient
) -> None:
    await api.post("/api/auth/register", {"email": ALICE, "password": SPACED})
    assert (await visitor.log_in(ALICE, SPACED.strip())).status == 401
    assert (await visitor.log_in(ALICE, SPACED)).text.startswith("Tasks")


# Where a login leads


async def test_a_page_that_needs_a_session_is_opened_after_the_login(
    alice: ApiClient, visitor: PageClient
) -> None:
    response = await visitor.fetch("GET", "/tasks?status=completed")
    assert (response.status, response.location) == (303, "/login?next=/tasks%3Fstatus%3Dcompleted")
    await visitor.follow(response)
    response = await visitor.send("Log in", email=ALICE, password=PASSWORD)
    assert response.location == "/tasks?status=completed"


async def test_the_path_after_the_login_survives_a_wrong_password(
    alice: ApiClient, visitor: PageClient
) -> None:
    await visitor.open("/tasks?status=pending")
    await visitor.send("Log in", email=ALICE, password="something else")
    response = await visitor.send("Log in", email=ALICE, password=PASSWORD)
    assert response.location == "/tasks?status=pending"


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "\t//evil.example",
        " //evil.example",
        "/\n/evil.example",
        "/\r\nSet-Cookie: taskapp-session=evil",
        "https:evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "data:text/html,evil",
        "evil.example",
        "%2f%2fevil.example",
        "@evil.example",
        "",
        "/tasks?title=日本",
        "/\u2028/evil.example",
        "/\0",
    ],
)
async def test_a_login_never_leads_away_from_this_site(
    alice: ApiClient, visitor: PageClient, wanted: str
) -> None:
    await visitor.open("/login")
    response = await visitor.send("Log in", email=ALICE, password=PASSWORD, next=wanted)
    assert (response.status, response.location) == (303, "/tasks")


@pytest.mark.parametrize("query", ["%2F%2Fevil.example", "/%5Cevil.example", "/%09/evil.example"])
async def test_a_link_to_the_login_page_never_leads_away_from_this_site(
    alice: ApiClient, visitor: PageClient, query: str
) -> None:
    page = await visitor.open(f"/login?next={query}")
    assert "evil" not in page.html
    response = await visitor.fetch("POST", f"/login?next={query}", _login_fields(visitor))
    assert (response.status, response.location) == (303, "/tasks")


@pytest.mark.parametrize("wanted", ["/%09/evil.example", "/..//evil.example", "/%2f%2fevil"])
async def test_a_path_that_only_looks_evil_stays_a_path_of_this_site(
    alice: ApiClient, visitor: PageClient, wanted: str
) -> None:
    await visitor.open("/login")
    response = await visitor.send("Log in", email=ALICE, password=PASSWORD, next=wanted)
    assert response.location == wanted


def _login_fields(visitor: PageClient) -> dict[str, str]:
    return visitor.csrf_field | {"email": ALICE, "password": PASSWORD}


# Cookies and sessions


async def test_no_cookie_can_be_read_by_scripts_or_sent_by_other_sites(
    alice: ApiClient, visitor: PageClient
) -> None:
    await visitor.log_in(ALICE)
    await visitor.add_task("Buy milk")
    names = ("session", "device", "csrf", "flash")
    assert set(visitor.morsels) == {cookie_name(name) for name in names}
    for morsel in visitor.morsels.values():
        assert morsel["httponly"] is True
        assert morsel["samesite"].lower() == "lax"
        assert (morsel["path"], morsel["domain"]) == ("/", "")


@pytest.mark.parametrize("setting_changes", [{"TASKAPP_PUBLIC_URL": "https://tasks.example.com"}])
async def test_behind_https_every_cookie_is_bound_to_the_host_and_to_https(
    alice: ApiClient, visitor: PageClient
) -> None:
    await visitor.log_in(ALICE)
    await visitor.add_task("Buy milk")
    assert set(visitor.morsels) == {
        cookie_name("session", "__Host-taskapp"),
        cookie_name("device", "__Host-taskapp"),
        cookie_name("csrf", "__Host-taskapp"),
        cookie_name("flash", "__Host-taskapp"),
    }
    for morsel in visitor.morsels.values():
        assert morsel["secure"] is True
        assert (morsel["path"], morsel["domain"]) == ("/", "")


async def test_a_login_begins_a_new_session_and_ends_the_one_before(
    alice: ApiClient, visitor: PageClient, other: PageClient
) -> None:
    await visitor.log_in(ALICE)
    before = visitor.cookies[cookie_name("session")]
    await visitor.fetch("POST", "/login", _login_fields(visitor))
    assert visitor.cookies[cookie_name("session")] != before
    other.cookies[cookie_name("session")] = before
    assert (await other.fetch("GET", "/tasks")).location == "/login?next=/tasks"


async def test_a_planted_session_is_not_used_after_the_login(
    alice: ApiClient, bob: ApiClient, visitor: PageClient, other: PageClient
) -> None:
    await other.log_in("bob@example.com")
    await visitor.open("/login")
    visitor.cookies[cookie_name("session")] = other.cookies[cookie_name("session")]
    assert (await visitor.send("Log in", email=ALICE, password=PASSWORD)).status == 403
    page = await visitor.submit("Log in", email=ALICE, password=PASSWORD)
    assert "Logged in as alice@example.com" in page.text
    assert (await other.fetch("GET", "/tasks")).status == 303


async def test_logging_out_ends_the_session_so_that_a_copied_cookie_fails(
    alice: ApiClient, visitor: PageClient, other: PageClient
) -> None:
    await visitor.log_in(ALICE)
    other.cookies = dict(visitor.cookies)
    response = await visitor.send("Log out")
    assert (response.status, response.location) == (303, "/login")
    assert (await visitor.follow(response)).flash_message == "You have been logged out."
    assert cookie_name("session") not in visitor.cookies
    assert (await other.fetch("GET", "/tasks")).location == "/login?next=/tasks"


async def test_logging_out_twice_is_no_error(alice: ApiClient, visitor: PageClient) -> None:
    tasks = await visitor.log_in(ALICE)
    await visitor.send("Log out")
    visitor.page = tasks
    assert (await visitor.send("Log out")).location == "/login"


async def test_opening_the_logout_address_does_not_log_out(
    alice: ApiClient, visitor: PageClient
) -> None:
    await visitor.log_in(ALICE)
    page = await visitor.fetch("GET", "/logout")
    assert (page.status, page.headers["Allow"]) == (405, "OPTIONS, POST")
    assert (await visitor.open("/tasks")).status == 200


async def test_every_page_of_somebody_who_is_logged_in_has_a_way_out(
    alice: ApiClient, visitor: PageClient
) -> None:
    await visitor.log_in(ALICE)
    task = await alice.add_task()
    of_task = [f"/tasks/{task['id']}/{name}" for name in ("edit", "delete", "status")]
    for address in ("/tasks", "/tasks/completed/delete", *of_task, "/api/docs", "/none"):
        assert (await visitor.open(address)).has_form("Log out")


@pytest.mark.parametrize("address", ["/login", "/register"])
async def test_a_user_who_is_logged_in_is_led_from_login_and_register_to_the_tasks(
    alice: ApiClient, visitor: PageClient, address: str
) -> None:
    await visitor.log_in(ALICE)
    response = await visitor.fetch("GET", address)
    assert (response.status, response.location) == (303, "/tasks")


async def test_a_user_who_is_logged_in_is_led_by_a_login_link_to_where_it_points(
    alice: ApiClient, visitor: PageClient
) -> None:
    await visitor.log_in(ALICE)
    response = await visitor.fetch("GET", "/login?next=/tasks%3Fstatus%3Dcompleted")
    assert response.location == "/tasks?status=completed"
    assert (await visitor.open("/login?next=/login")).text.startswith("Tasks")


@pytest.mark.parametrize("address", ["/", "/login", "/register", "/tasks"])
async def test_an_ended_session_leads_to_no_redirect_loop(
    alice: ApiClient, visitor: PageClient, other: PageClient, address: str
) -> None:
    await visitor.log_in(ALICE)
    other.cookies = dict(visitor.cookies)
    await visitor.send("Log out")
    page = await other.open(address)
    assert page.has_form("Create account" if address == "/register" else "Log in")
    assert cookie_name("session") not in other.cookies
    assert not page.has_form("Log out")
    assert ("Your session has ended. Log in to continue." in page.text) == page.has_form("Log in")


async def test_a_session_cookie_that_is_not_ours_is_left_alone(visitor: PageClient) -> None:
    for name in (cookie_name("session"), "taskapp-session", "taskapp-0a1b2c3d-session"):
        visitor.cookies = {name: "forged.signature"}
        response = await visitor.fetch("GET", "/tasks")
        assert (response.status, response.location) == (303, "/login?next=/tasks")
        page = await visitor.follow(response)
        assert page.has_form("Log in")
        assert "Your session has ended." not in page.text
        assert visitor.cookies[name] == "forged.signature"


# Forms without a valid CSRF token


@pytest.mark.parametrize("address", ["/login", "/register"])
@pytest.mark.parametrize("sent", [None, "", "2|forged|forged|1"])
async def test_a_form_without_its_csrf_token_is_shown_again_with_the_address(
    alice: ApiClient, visitor: PageClient, address: str, sent: str | None
) -> None:
    button = "Log in" if address == "/login" else "Create account"
    email = ALICE if address == "/login" else "carol@example.com"
    await visitor.open(address)
    page = await visitor.send(button, email=email, password=PASSWORD, csrf_token=sent)
    assert page.status == 403
    assert FormNotTrusted.detail in page.text
    assert page.form(button).fields["email"] == email
    assert page.form(button).fields["password"] == ""
    response = await visitor.send(button, password=PASSWORD)
    assert response.status == 303


@pytest.mark.parametrize("address", ["/login", "/register"])
async def test_a_form_whose_cookie_is_gone_can_be_sent_again(
    alice: ApiClient, visitor: PageClient, address: str
) -> None:
    button = "Log in" if address == "/login" else "Create account"
    email = ALICE if address == "/login" else "carol@example.com"
    await visitor.open(address)
    visitor.cookies.clear()
    page = await visitor.send(button, email=email, password=PASSWORD)
    assert (page.status, page.form(button).fields["email"]) == (403, email)
    assert (await visitor.send(button, password=PASSWORD)).status == 303


@pytest.mark.parametrize("headers", FROM_ELSEWHERE)
@pytest.mark.parametrize("button", ["Log in", "Create account"])
async def test_a_form_that_another_site_sent_is_refused_and_not_shown(
    alice: ApiClient, visitor: PageClient, button: str, headers: dict[str, str]
) -> None:
    await visitor.open("/login" if button == "Log in" else "/register")
    visitor.headers = headers
    page = await visitor.send(button, email=ALICE, password=PASSWORD)
    assert page.status == 403
    assert ALICE not in page.html
    assert cookie_name("session") not in visitor.cookies


@pytest.mark.parametrize("headers", FROM_ELSEWHERE)
async def test_another_site_cannot_log_a_user_out(
    alice: ApiClient, visitor: PageClient, headers: dict[str, str]
) -> None:
    await visitor.log_in(ALICE)
    visitor.headers = headers
    assert (await visitor.send("Log out")).status == 403
    assert (await visitor.open("/tasks")).text.startswith("Tasks")


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}])
async def test_a_form_that_this_site_sent_is_accepted(
    alice: ApiClient, visitor: PageClient, headers: dict[str, str]
) -> None:
    await visitor.open("/login")
    visitor.headers = headers
    response = await visitor.send("Log in", email=ALICE, password=PASSWORD)
    assert response.status == 303


# Bad input


@pytest.mark.parametrize("address", ["/login", "/register"])
@pytest.mark.parametrize(
    "extra",
    [b"&email=second%40example.com", b"&password=second", b"&password2=%ff", b"&password=%ff%fe"],
)
async def test_a_strange_form_is_an_error_with_words_and_never_a_server_error(
    visitor: PageClient, address: str, extra: bytes
) -> None:
    await visitor.open(address)
    token = visitor.csrf_field["csrf_token"].encode("ascii")
    body = b"csrf_token=" + token + b"&email=alice%40example.com&password=x" + extra
    page = await visitor.fetch("POST", address, body)
    assert page.status in {400, 401}
    assert len(page.text) > 20
    without_proof = await visitor.fetch("POST", address, b"email=a%40example.com" + extra)
    assert without_proof.status == 403
    assert 'value="a@example.com"' in without_proof.html


@pytest.mark.parametrize("name", ["email", "password"])
async def test_characters_that_cannot_be_stored_are_refused_beside_the_field(
    visitor: PageClient, name: str
) -> None:
    await visitor.open("/register")
    fields = {"email": ALICE, "password": PASSWORD, name: "with a \0 in it"}
    page = await visitor.send("Create account", **fields)
    assert page.status == 400
    assert "unsupported characters" in page.error_beside("Create account", name)


async def test_a_form_that_is_too_large_is_an_error_page(visitor: PageClient) -> None:
    await visitor.open("/login")
    page = await visitor.send("Log in", email=ALICE, password="x" * 300_000)
    assert page.status == 413
    assert "exceeds the size limit" in page.text


# Limits, closed registration, a database that is away


@pytest.mark.parametrize("setting_changes", [{"TASKAPP_LOGIN_LIMIT": "2/15minute"}])
async def test_a_login_after_too_many_failures_says_when_to_try_again(
    alice: ApiClient, visitor: PageClient
) -> None:
    for _ in range(2):
        assert (await visitor.log_in(ALICE, "something else")).status == 401
    page = await visitor.log_in(ALICE, PASSWORD)
    assert page.status == 429
    assert 800 < int(page.headers["Retry-After"]) <= 900
    assert page.text.startswith("Error: Log in")
    assert "Try again in 15 minutes." in page.text
    assert page.form("Log in").fields["email"] == ALICE
    assert page.form("Log in").fields["password"] == ""


@pytest.mark.parametrize("setting_changes", [{"TASKAPP_REGISTER_LIMIT": "1/hour"}])
async def test_a_registration_too_many_keeps_the_address(visitor: PageClient) -> None:
    await visitor.sign_up("first@example.com")
    page = await visitor.sign_up("second@example.com")
    assert page.status == 429
    assert page.text.startswith("Error: Register")
    assert "Try again in 60 minutes." in page.text
    assert page.form("Create account").fields["email"] == "second@example.com"
    assert page.form("Create account").fields["password"] == ""


@pytest.mark.parametrize("setting_changes", [{"TASKAPP_REGISTRATION": "closed"}])
async def test_closed_registration_says_so_and_offers_no_way_to_it(visitor: PageClient) -> None:
    page = await visitor.open("/register")
    assert page.status == 403
    assert "Ask the administrator of this server for an account." in page.text
    login = await visitor.open("/login")
    assert not login.has_link("Register")
    fields = visitor.csrf_field | {"email": ALICE, "password": PASSWORD}
    assert (await visitor.fetch("POST", "/register", fields)).status == 403


@pytest.mark.parametrize("button", ["Log in", "Create account"])
async def test_the_typed_address_survives_a_database_that_is_away(
    services: Services, visitor: PageClient, button: str
) -> None:
    await visitor.open("/login" if button == "Log in" else "/register")
    await services.database.close()
    page = await visitor.send(button, email=ALICE, password=PASSWORD)
    assert page.status == 503
    assert int(page.headers["Retry-After"]) >= 1
    assert Unavailable.detail in page.text
    assert "Try again in 2 seconds." in page.text
    assert page.form(button).fields["email"] == ALICE


async def test_two_registrations_of_one_address_at_once_make_one_account(
    http_client: Any, base_url: str
) -> None:
    visitors = [PageClient(http_client, base_url) for _ in range(4)]
    for each in visitors:
        await each.open("/register")
    responses = await asyncio.gather(
        *(each.send("Create account", email=ALICE, password=PASSWORD) for each in visitors)
    )
    assert sorted(response.status for response in responses) == [303, 409, 409, 409]
