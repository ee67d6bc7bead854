"""Attacks that need a real browser: scripts in text, and pages of other sites."""

import threading
from collections.abc import Iterator
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.support.browser_fixtures import Account, new_account
from tests.support.stories import add_several, have, link, log_in, titles, with_scripts

pytest_plugins = ["tests.support.story_fixtures"]
pytestmark = with_scripts

SCRIPTS = [
    "<script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "'><svg onload=alert(1)>",
    '" autofocus onfocus=alert(1) x="',
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<details open ontoggle=alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<a href=javascript:alert(1)>x</a>",
    "<form action=javascript:alert(1)><button autofocus>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<base href=//evil.example/>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<style>@import '//evil.example/x.css'</style>",
    "<object data=javascript:alert(1)>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\u003cscript\u003ealert(1)",
    "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e",
    "<!--<script>alert(1)//-->",
    "]]><script>alert(1)</script>",
    "{{7*7}}${7*7}<%= 7*7 %>#{7*7}",
    "javascript:alert(1)//",
    "<b id=policy name=forms>clobbered",
]
MARKUP = "main :is(script, img, svg, iframe, object, math, base, style, meta, [onerror], [onload])"


def test_no_text_of_anybody_becomes_a_script(
    context: BrowserContext, page: Page, account: Account, said: list[str]
) -> None:
    have(context, account, *SCRIPTS)
    log_in(page, account)
    assert titles(page).all_inner_texts() == SCRIPTS
    expect(page.locator(MARKUP)).to_have_count(0)
    for place in range(5, len(SCRIPTS), 15):
        for name, shown in (
            ("Edit", page.get_by_role("button", name="Save", exact=True)),
            ("Delete", page.get_by_role("heading", name="Delete this task?")),
        ):
            page.goto("/tasks")
            page.get_by_role("link", name=f"{name}: ").nth(place).click()
            shown.wait_for()
            expect(page.locator(MARKUP)).to_have_count(0)
    page.goto("/tasks")
    add_several(page, *SCRIPTS)
    expect(titles(page)).to_have_count(2 * len(SCRIPTS))
    assert said == []


def test_no_address_becomes_a_script(page: Page, account: Account, said: list[str]) -> None:
    every = quote("".join(SCRIPTS), safe="")
    for path in ("/login?next=/", "/register?email=", "/tasks?status=", "/", "/api/docs?x="):
        page.goto(f"{path}{every}")
        expect(page.locator(MARKUP)).to_have_count(0)
    page.goto("/login")
    for text in SCRIPTS[5:8]:
        page.get_by_label("Email").evaluate("node => { node.type = 'text' }")
        page.get_by_label("Email").fill(text)
        page.get_by_label("Password", exact=True).fill(text)
        page.get_by_role("button", name="Log in").click()
        page.locator("main [role=alert], main .error").first.wait_for()
        expect(page.locator(MARKUP)).to_have_count(0)
        assert page.get_by_label("Email").input_value() == text


def test_the_fields_of_passwords_help_password_managers(page: Page, account: Account) -> None:
    for path, kind in (("/login", "current-password"), ("/register", "new-password")):
        page.goto(path)
        password = page.get_by_label("Password", exact=True)
        assert password.get_attribute("autocomplete") == kind
        assert page.get_by_label("Email").get_attribute("autocomplete") == "username"
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.evaluate("navigator.clipboard.writeText('pasted words')")
        password.focus()
        page.keyboard.press("Control+V")
        assert password.input_value() == "pasted words"


# Pages of other sites


@pytest.fixture(scope="module")
def evil() -> Iterator[str]:
    """Run another site on this machine, whose pages come from PAGES."""

    class Evil(BaseHTTPRequestHandler):
        pages: dict[str, str] = PAGES

        def do_GET(self) -> None:  # the library's name
            body = self.pages.get(self.path, "").encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            if self.path == "/sandboxed":  # its origin is null
                self.send_header("Content-Security-Policy", "sandbox allow-scripts allow-forms")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Evil) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


PAGES: dict[str, str] = {}  # responses of the other server, by path


def form_to(address: str, **fields: str) -> str:
    inputs = "".join(
        f'<input name="{name}" value="{escape(text)}">' for name, text in fields.items()
    )
    send = "<script>document.forms[0].submit()</script>"
    return f'<form method="post" action="{address}">{inputs}</form>{send}'


@pytest.mark.parametrize(
    ("host", "way"),
    [("127.0.0.1", "page"), ("localhost", "page"), ("127.0.0.1", "sandboxed")],
    ids=["same site", "another site", "no origin"],
)
def test_a_form_of_another_port_changes_nothing(
    context: BrowserContext, tasks: Page, address: str, evil: str, host: str, way: str
) -> None:
    proof = tasks.locator("#add [name=csrf_token]").get_attribute("value") or ""
    for target, fields in {
        "/tasks": {"title": "By another site", "csrf_token": proof},
        "/logout": {"csrf_token": proof},
        "/theme": {"theme": "dark", "csrf_token": proof},
    }.items():
        PAGES[f"/{way}"] = form_to(address + target, **fields)
        attack = context.new_page()
        with attack.expect_request(lambda sent: sent.method == "POST"):
            attack.goto(evil.replace("127.0.0.1", host) + f"/{way}", wait_until="commit")
        attack.get_by_role("main").wait_for()
        attack.close()
    tasks.goto("/tasks")
    expect(titles(tasks)).to_have_count(0)
    expect(tasks.get_by_role("button", name="Log out")).to_be_visible()
    assert tasks.locator("html").get_attribute("data-theme") in {None, ""}


def test_no_other_site_can_frame_a_page(
    context: BrowserContext, tasks: Page, address: str, evil: str
) -> None:
    for path in ("/login", "/tasks", "/nothing", "/api/docs", "/static/style.css"):
        PAGES["/frame"] = f'<iframe src="{address}{path}"></iframe>'
        attack = context.new_page()
        with attack.expect_console_message(lambda line: "frame-ancestors" in line.text):
            attack.goto(f"{evil}/frame")
        attack.close()


def test_no_other_site_reads_a_response(
    context: BrowserContext, tasks: Page, address: str, evil: str
) -> None:
    PAGES["/read"] = "<p>x</p>"
    attack = context.new_page()
    attack.goto(f"{evil}/read")
    for path in ("/tasks", "/api/tasks", "/api/health", "/static/style.css"):
        for mode in ("cors", "no-cors"):
            read = attack.evaluate(
                """([url, mode]) => fetch(url, { mode, credentials: "include" })
                    .then((response) => response.text(), () => "")""",
                [address + path, mode],
            )
            assert read == "", (path, mode)
    assert attack.evaluate(
        """async (url) => {
                const opened = window.open(url);
                try {
                    while (!opened.closed && opened.location.href === "about:blank")
                        await new Promise((done) => setTimeout(done, 10));
                    return opened.closed || opened.document.title;
                } catch { return "no" }
            }""",
        f"{address}/tasks",
    ) in {True, "no"}
    attack.close()


def test_two_browsers_have_nothing_in_common(browser: Browser, address: str, tasks: Page) -> None:
    other = browser.new_context(base_url=address)
    page = other.new_page()
    account = new_account("bob")
    sent = {"email": account.email, "password": account.password}
    assert other.request.post("/api/auth/register", data=sent).status == 201
    log_in(page, account)
    link(page, "Completed").click()
    expect(titles(page)).to_have_count(0)
    other.close()
