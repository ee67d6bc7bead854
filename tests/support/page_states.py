"""Every page in every state: the one list for screenshots and for checks of pages.

To add a state, write a function with `@state` that brings a visit there. It uses paths and names of
fields, never sentences, because the pages have several languages. `shows` is a CSS selector that
matches only once the page is in that state.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.page_site import (
    CLOSED,
    EMPTY,
    FAILING,
    FILLED,
    MANY,
    NEW,
    NOBODY,
    OPEN,
    STRICT,
    TWO_PAGES,
    Site,
    Visit,
)

TOO_LONG = "x" * 300
WRONG_FIELD = "main [aria-invalid=true]"
PROBLEM = "main [role=alert]"
FLASH_MESSAGE = "[role=status]:not(:empty)"
ERROR_PAGE = "main code"  # the id of the request


@dataclass(frozen=True)
class State:
    """A state of a page, the status of its response, and how to bring a visit there."""

    name: str
    bring: Callable[[Visit], None]
    whose: str
    server: str
    status: int
    shows: str
    needs_scripts: bool

    @contextmanager
    def visit(self, site: Site, locale: str = "en-GB", *, scripts: bool = True) -> Iterator[Visit]:
        """Yield a page in this state."""
        with site.visit(
            self.whose, server=self.server, locale=locale, has_scripts=scripts
        ) as visit:
            self.bring(visit)
            visit.page.locator(self.shows).first.wait_for(state="attached")
            yield visit


STATES: list[State] = []
BOX = "main [role=checkbox]"


def state(
    name: str,
    whose: str = NOBODY,
    *,
    server: str = OPEN,
    status: int = 200,
    shows: str = "main h1",
    needs_scripts: bool = False,
) -> Callable[[Callable[[Visit], None]], Callable[[Visit], None]]:
    """Add a state to the list; the decorated function brings a visit there."""

    def add(bring: Callable[[Visit], None]) -> Callable[[Visit], None]:
        STATES.append(State(name, bring, whose, server, status, shows, needs_scripts))
        return bring

    return add


def opened(
    name: str,
    path: str,
    whose: str = NOBODY,
    *,
    server: str = OPEN,
    status: int = 200,
    shows: str = "main h1",
) -> None:
    """Add a state that a path has as soon as it is opened."""
    state(name, whose, server=server, status=status, shows=shows)(lambda visit: visit.open(path))


def pressed(name: str, whose: str, selector: str, *, shows: str) -> None:
    """Add a state that the list of tasks has after something on it is pressed."""

    @state(name, whose, shows=shows)
    def press(visit: Visit) -> None:
        visit.open("/tasks")
        visit.press(selector)


# Accounts

opened("login", "/login")
opened("register", "/register")
opened("registration-closed", "/register", server=STRICT, status=403, shows=ERROR_PAGE)


@state("register-refused", status=400, shows=WRONG_FIELD)
def refuse_an_account(visit: Visit) -> None:
    visit.open("/register")
    visit.send(email="not an address", password="1234567")


@state("register-weak-password", status=400, shows=WRONG_FIELD)
def refuse_a_weak_password(visit: Visit) -> None:
    visit.open("/register")
    visit.send(email=visit.owner.account.email, password="password1234")


@state("register-taken", status=409, shows=WRONG_FIELD)
def refuse_a_second_account(visit: Visit) -> None:
    account = visit.site.owner(EMPTY).account
    visit.open("/register")
    visit.send(email=account.email, password=account.password)


@state("register-password-shown", shows="main [name=password][type=text]", needs_scripts=True)
def show_the_password(visit: Visit) -> None:
    visit.open("/register")
    visit.page.locator("main [name=password]").fill("SecurePass123!")
    visit.press("main [data-reveal]")


@state("login-flash", shows=FLASH_MESSAGE)
def register(visit: Visit) -> None:
    visit.open("/register")
    visit.log_in()


@state("login-refused", status=401, shows=PROBLEM)
def refuse_a_login(visit: Visit) -> None:
    visit.open("/login")
    visit.log_in()


@state("login-limited", server=STRICT, status=429, shows=PROBLEM)
def try_to_log_in_too_often(visit: Visit) -> None:
    visit.open("/login")
    for _ in range(2):
        visit.log_in()


@state("login-unavailable", server=FAILING, status=503, shows=PROBLEM)
def log_in_without_a_database(visit: Visit) -> None:
    visit.open("/login")
    with visit.site.no_database():
        visit.log_in()


@state("session-ended", FILLED, status=401, shows="main [name=draft_action]")
def add_after_the_end_of_the_session(visit: Visit) -> None:
    visit.open("/tasks")
    visit.forget("session")
    visit.send(title="Typed for a long time", description="And with care")


SHARED = "/tasks?title=Read+about+tea&url=https%3A%2F%2Ftea.example%2F"
opened("shared-text", SHARED, FILLED, shows="main [name=version]")
opened("shared-text-login", SHARED, status=401, shows="main [name=draft_given]")


@state("typed-text-back", FILLED, shows="main form:not(:has([name=draft_action])) [name=title]")
def log_in_again(visit: Visit) -> None:
    add_after_the_end_of_the_session(visit)
    visit.page.locator("main [name=draft_action]").wait_for(state="attached")
    visit.log_in()


@state("typed-lines-back", FILLED, shows="main form:not(:has([name=draft_action])) [name=titles]")
def log_in_again_with_several(visit: Visit) -> None:
    visit.open("/tasks")
    visit.forget("session")
    visit.send(titles="Buy bread\nCall Ada")
    visit.page.locator("main [name=draft_action]").wait_for(state="attached")
    visit.log_in()


# The account page

opened("account", "/account", EMPTY)
opened("account-delete", "/account/delete", FILLED)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
)


@state("account-used", NEW)
def use_an_account_everywhere(visit: Visit) -> None:
    account = {"email": visit.owner.account.email, "password": visit.owner.account.password}
    for user_agent in (FIREFOX, PHONE, "curl/8.5.0", "?"):
        headers = {"User-Agent": user_agent}
        assert visit.page.request.post("/api/auth/login", data=account, headers=headers).ok
    for name in ("Backup script", "x" * 100, "Überwachung im Serverraum 🛰️, zweiter Versuch"):
        visit.open("/account")
        visit.send(name=name, password=visit.owner.account.password)
    visit.open("/account")


@state("account-ended", NEW, shows=FLASH_MESSAGE)
def end_all_others(visit: Visit) -> None:
    use_an_account_everywhere(visit)
    visit.press("main [href$='/others/end']")
    visit.send(password=visit.owner.account.password)


@state("account-end", NEW, shows="main [name=password]")
def ask_before_ending_a_session(visit: Visit) -> None:
    use_an_account_everywhere(visit)
    visit.press("main .entries .end")


@state("account-revoke", NEW, shows="main [name=password]")
def ask_before_revoking_a_token(visit: Visit) -> None:
    make_a_token(visit)
    visit.open("/account")
    visit.press("[aria-labelledby=tokens] .end")


opened("account-end-others", "/account/sessions/others/end", FILLED)


@state("account-end-refused", FILLED, status=400, shows=WRONG_FIELD)
def refuse_to_end_all_others(visit: Visit) -> None:
    visit.open("/account/sessions/others/end")
    visit.send(password="not mine")


@state("account-token", NEW, shows="main code")
def make_a_token(visit: Visit) -> None:
    visit.open("/account")
    visit.send(name="Backup script", password=visit.owner.account.password)


@state("account-token-refused", NEW, status=400, shows=WRONG_FIELD)
def make_a_second_token_of_a_name(visit: Visit) -> None:
    for _ in range(2):
        make_a_token(visit)


@state("account-password", EMPTY, shows="main details[open] [name=new_password]")
def open_the_form_for_a_new_password(visit: Visit) -> None:
    visit.open("/account")
    visit.press("main details:has([name=new_password]) > summary")


@state("account-password-refused", EMPTY, status=400, shows=WRONG_FIELD)
def refuse_a_new_password(visit: Visit) -> None:
    visit.open("/account")
    visit.send(current_password="not mine", new_password="1234567")


@state("account-password-limited", NEW, server=STRICT, status=429, shows=PROBLEM)
def try_passwords_too_often(visit: Visit) -> None:
    visit.open("/account")
    for _ in range(2):
        visit.send(current_password="not mine", new_password="a long new password")


@state("account-password-changed", NEW, shows=FLASH_MESSAGE)
def change_the_password(visit: Visit) -> None:
    visit.open("/account")
    password = visit.owner.account.password
    visit.send(current_password=password, new_password="a long new password")


@state("account-delete-refused", FILLED, status=400, shows=WRONG_FIELD)
def refuse_to_delete_the_account(visit: Visit) -> None:
    visit.open("/account/delete")
    visit.send(password="not mine")


@state("account-deleted", NEW, shows=FLASH_MESSAGE)
def delete_the_account(visit: Visit) -> None:
    visit.open("/account/delete")
    visit.send(password=visit.owner.account.password)


# The list

opened("tasks-empty", "/tasks", EMPTY)
opened("tasks-none-pending", "/tasks?status=pending", EMPTY)
opened("tasks-none-completed", "/tasks?status=completed", EMPTY)
opened("tasks", "/tasks", FILLED)
opened("tasks-pending", "/tasks?status=pending", FILLED)
opened("tasks-completed", "/tasks?status=completed", FILLED)
opened("tasks-many", "/tasks", MANY)


@state("tasks-many-next", MANY)
def go_to_the_second_page(visit: Visit) -> None:
    visit.open("/tasks")
    visit.open(visit.page.locator("[rel=next]").get_attribute("href") or "")


@state("tasks-no-more", TWO_PAGES)
def go_past_the_end(visit: Visit) -> None:
    go_to_the_second_page(visit)
    second = visit.page.url
    visit.press("main .links a:last-child")
    visit.press("main .danger")
    visit.open(second)


@state("tasks-all-done", NEW)
def complete_all(visit: Visit) -> None:
    visit.open("/tasks")
    visit.press(BOX)
    visit.page.locator(FLASH_MESSAGE).wait_for()
    visit.open("/tasks?status=pending")


@state("tasks-refused", FILLED, status=400, shows=WRONG_FIELD)
def refuse_a_task(visit: Visit) -> None:
    visit.open("/tasks")
    visit.send(title=TOO_LONG, description="Kept")


@state("tasks-added", NEW, shows=FLASH_MESSAGE)
def add(visit: Visit) -> None:
    visit.open("/tasks")
    visit.send(title="Buy bread", description="Rye")


pressed("tasks-changed", NEW, BOX, shows=FLASH_MESSAGE)
pressed("tasks-unfolded", FILLED, "main li summary", shows="main li details[open]")


@state("several", FILLED)
def open_the_form_for_several(visit: Visit) -> None:
    visit.open("/tasks")
    visit.press("main details:has([name=titles]) > summary")


@state("several-refused", FILLED, status=400, shows=WRONG_FIELD)
def refuse_several(visit: Visit) -> None:
    visit.open("/tasks")
    visit.send(titles=f"Buy bread\n{TOO_LONG}")


@state("tasks-loaded-more", MANY, shows="main li:nth-child(51)", needs_scripts=True)
def load_more(visit: Visit) -> None:
    visit.open("/tasks")
    visit.press("[rel=next]")


@state("tasks-help", FILLED, shows="dialog[open]", needs_scripts=True)
def ask_for_help(visit: Visit) -> None:
    visit.open("/tasks")
    visit.press("[data-help]")


@state("tasks-offline", FILLED, shows=FLASH_MESSAGE, needs_scripts=True)
def add_without_a_server(visit: Visit) -> None:
    visit.open("/tasks")
    visit.page.route("**/*", lambda route: route.abort(), times=1)
    visit.send(title="Typed for a long time")


# One task, or all completed tasks


@state("edit", FILLED)
def edit(visit: Visit) -> None:
    visit.open(visit.task("Minutes of the meeting"))


@state("edit-in-the-list", FILLED, shows="main li form [name=title]", needs_scripts=True)
def edit_in_the_list(visit: Visit) -> None:
    visit.open("/tasks")
    visit.press("main li [href*='/edit']")


@state("edit-refused", FILLED, status=400, shows=WRONG_FIELD)
def refuse_a_change(visit: Visit) -> None:
    edit(visit)
    visit.send(title="")


@state("edit-conflict", NEW, status=409, shows=PROBLEM)
def change_what_was_changed(visit: Visit) -> None:
    visit.open(visit.task("Buy milk"))
    other = Visit(visit.site, visit.page.context.new_page(), visit.owner)
    other.open(visit.task("Buy milk"))
    other.send(title="Buy oat milk")
    other.page.wait_for_url("**/tasks*")
    other.page.close()
    visit.send(title="Buy soy milk")


@state("edit-gone", NEW, status=404, shows="main form [name=title]")
def change_what_was_deleted(visit: Visit) -> None:
    visit.open(visit.task("Buy milk"))
    other = Visit(visit.site, visit.page.context.new_page(), visit.owner)
    other.open(visit.task("Buy milk", "delete"))
    other.press("main button")
    other.page.wait_for_url("**/tasks*")
    other.page.close()
    visit.send(title="Buy oat milk")


@state("delete", FILLED)
def ask_before_deleting(visit: Visit) -> None:
    visit.open(visit.task("Call the landlord about the heating", "delete"))


opened("delete-completed", "/tasks/completed/delete", FILLED)
opened("delete-completed-none", "/tasks/completed/delete", EMPTY)

# Themes


for theme in ("light", "dark"):
    pressed(
        f"theme-{theme}",
        FILLED,
        f"[name=theme][value={theme}]",
        shows=f"html[data-theme={theme}]",
    )

# Status and maintenance

opened("status", "/status", shows="main dl")


@state("status-unavailable", server=FAILING, status=503, shows="main dl")
def ask_a_server_without_a_database(visit: Visit) -> None:
    with visit.site.no_database():
        visit.open("/status")


opened("status-maintenance", "/status", server=CLOSED, status=503, shows="main dl")
opened("maintenance", "/tasks", FILLED, server=CLOSED, status=503, shows=ERROR_PAGE)

# Errors and the API docs

opened("api-docs", "/api/docs")
opened("bad-request", "/tasks?status=unknown", FILLED, status=400, shows=ERROR_PAGE)
opened("not-found", "/nowhere", FILLED, status=404, shows=ERROR_PAGE)
opened("not-found-stranger", "/nowhere", status=404, shows=ERROR_PAGE)
opened("method-not-allowed", "/logout", status=405, shows=ERROR_PAGE)


@state("not-yours", EMPTY, status=403, shows=ERROR_PAGE)
def open_the_task_of_somebody_else(visit: Visit) -> None:
    theirs = visit.site.owner(FILLED).tasks["Buy milk"]
    visit.open(f"/tasks/{theirs}/edit")


@state("form-not-trusted", FILLED, status=403, shows=ERROR_PAGE)
def send_without_the_token(visit: Visit) -> None:
    visit.open("/account/delete")
    visit.forget("csrf")
    visit.send(password="not mine")


@state("too-large", FILLED, status=413, shows=ERROR_PAGE)
def send_too_much(visit: Visit) -> None:
    visit.open(visit.task("Buy milk"))
    visit.send(title="The whole book", description="word " * 60_000)


@state("server-error", FILLED, server=FAILING, status=500, shows=ERROR_PAGE)
def meet_a_server_that_fails(visit: Visit) -> None:
    with visit.site.no_column_of_titles():
        visit.open("/tasks")


@state("unavailable", FILLED, server=FAILING, status=503, shows=ERROR_PAGE)
def meet_a_server_without_a_database(visit: Visit) -> None:
    with visit.site.no_database():
        visit.open("/tasks")
