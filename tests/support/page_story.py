"""A story in which a browser sees every page in every state, and a walk along all links."""

import re
from urllib.parse import urldefrag

from handlers.pages.base import PageHandler
from handlers.pages.site import StaticFiles
from handlers.routes import ROUTES
from taskapp.services import Services
from tests.support.clients import ApiClient
from tests.support.page_client import ALICE, HOSTILE, PASSWORD, PageClient, cookie_name
from tests.support.page_reader import Page

PAGES = {
    path: handler
    for path, handler in ROUTES
    if issubclass(handler, PageHandler) and not issubclass(handler, StaticFiles)
}


def route_of(address: str) -> str:
    """Return the route of the page at an address."""
    path = urldefrag(address).url.partition("?")[0]
    patterns = {route: re.escape(route).replace(":id", "[^/]+") for route in PAGES}
    # The first match counts, as in the server.
    return next((route for route in PAGES if re.fullmatch(patterns[route], path)), "(none)")


async def tell(visitor: PageClient, alice: ApiClient, bob: ApiClient, services: Services) -> None:
    """Show a browser every page; its history has them all."""
    await _meet_a_stranger(visitor)
    await visitor.log_in(ALICE)
    await _write_things_down(visitor)
    await _look_at_the_list(visitor)
    await _change_a_task(visitor, alice)
    await _delete_tasks(visitor, alice)
    await _go_wrong(visitor, bob, services)
    await _lose_the_session(visitor, alice)
    await _look_after_the_account(visitor, alice)
    await visitor.submit("Log out")


async def _meet_a_stranger(visitor: PageClient) -> None:
    for address in (
        "/",
        "/login",
        "/login?next=%2Ftasks%3Fstatus%3Dpending",
        "/status",
        "/register",
    ):
        await visitor.open(address)
    await visitor.submit("Dark")
    for email, password in [("", ""), (ALICE, "something else")]:
        await visitor.log_in(email, password)
    await visitor.send("Log in", csrf_token=None)
    for email, password in [("nonsense", ""), (ALICE, PASSWORD)]:
        await visitor.sign_up(email, password)
    await visitor.send("Create account", csrf_token=None)
    await visitor.sign_up("carol@example.com")


async def _write_things_down(visitor: PageClient) -> None:
    for query in ("", "?status=pending", "?status=completed"):
        await visitor.open(f"/tasks{query}")
    await visitor.open("/tasks/completed/delete")
    await visitor.open("/tasks")
    await visitor.send("Add", title="", description="Kept")
    await visitor.send("Add", title="Kept", description="x" * 10_001)
    await visitor.send("Add tasks", titles="")
    for text in HOSTILE:
        await visitor.submit("Add", title=text, description=f"{text}\n" * 40)
    await visitor.submit("Add tasks", titles="\n".join(f"Line {n}" for n in range(60)))


async def _look_at_the_list(visitor: PageClient) -> None:
    await visitor.submit("Line 0")
    await visitor.submit("Undo")
    await visitor.submit("Line 1")
    for query in ("?status=completed", "?status=pending", ""):
        page = await visitor.open(f"/tasks{query}")
    await visitor.open(page.link("Load more"))
    await visitor.open("/tasks/several")
    await visitor.open("/api/docs")


async def _change_a_task(visitor: PageClient, alice: ApiClient) -> None:
    page = await visitor.open("/tasks?status=pending")
    edit_page = page.link("Edit: Line 2")
    await visitor.open(edit_page)
    await visitor.send("Save", title="")
    await alice.put(_in_the_api(edit_page), {"title": "By the other"})
    await visitor.send("Save", title="By me")
    await visitor.submit("Save mine")


async def _delete_tasks(visitor: PageClient, alice: ApiClient) -> None:
    page = await visitor.open("/tasks")
    edit_page = page.link("Edit: Line 4")
    await visitor.open(edit_page)
    await alice.delete(_in_the_api(edit_page))
    await visitor.send("Save", title="Typed")
    await visitor.open(page.link("Delete: Line 5"))
    await visitor.submit("Delete")
    await visitor.submit("Undo")
    await visitor.open("/tasks/completed/delete?status=completed")
    await visitor.submit("Delete")


def _in_the_api(edit_page: str) -> str:
    return "/api" + edit_page.partition("/edit")[0]


async def _look_after_the_account(visitor: PageClient, alice: ApiClient) -> None:
    await alice.log_in(ALICE, PASSWORD)
    for name in ("", *HOSTILE):
        await visitor.open("/account")
        sent = {"name": name, "read_only": "yes", "expires": "never", "password": PASSWORD}
        await visitor.submit("Create token", **sent)
    page = await visitor.open("/account/tokens")
    for link, button in [
        (f"Revoke: {HOSTILE[0]}", "Revoke token"),
        ("Log out everywhere else",) * 2,
    ]:
        await visitor.open(page.link(link))
        await visitor.submit(button, password="something else")
        await visitor.submit(button, password=PASSWORD)
    await visitor.open("/account")
    await visitor.send("Update password", current_password=PASSWORD, new_password="short")
    await visitor.open("/account/password")
    new = f"another {PASSWORD}"
    for old, password in [(PASSWORD, new), (new, PASSWORD)]:
        await visitor.submit("Update password", current_password=old, new_password=password)
    await alice.log_in(ALICE, PASSWORD)
    await visitor.open("/account")
    await visitor.open(visitor.page.link("Delete my account"))
    await visitor.send("Delete my account", password="something else")


async def _go_wrong(visitor: PageClient, bob: ApiClient, services: Services) -> None:
    task = await bob.add_task("Bob's secret")
    for address in (f"/tasks/{task['id']}/edit", "/tasks?after=forged", "/nowhere", "/logout"):
        await visitor.open(address)
    form = await visitor.open("/tasks")
    for changes in ({"title": "Typed", "csrf_token": None}, {"title": "x" * 300_000}):
        visitor.page = form
        await visitor.send("Add", **changes)
    visitor.page = form
    await services.database.close()
    await visitor.open("/status")
    visitor.page = form
    await visitor.send("Add tasks", titles="Typed\nmore")
    await services.database.open(services.settings.database_url)
    await visitor.submit("Send again")


async def _lose_the_session(visitor: PageClient, alice: ApiClient) -> None:
    task = await alice.add_task("Long thought about")
    for address, button, field in [
        ("/tasks?status=pending", "Add", "title"),
        ("/tasks", "Add tasks", "titles"),
        (f"/tasks/{task['id']}/edit", "Save", "title"),
    ]:
        await visitor.open(address)
        del visitor.cookies[cookie_name("session")]
        await visitor.send(button, **{field: "Typed"})
        await visitor.send("Log in", email=ALICE, password="something else")
        await visitor.send("Log in", email=ALICE, password=PASSWORD)
        await visitor.submit("Save changes")


async def walk(visitor: PageClient, address: str) -> list[Page]:
    """Return the page at an address, and all pages that its links lead to."""
    pages: dict[str, Page] = {}
    waiting = [address]
    while waiting:
        found = urldefrag(waiting.pop()).url
        if found not in pages:
            pages[found] = await visitor.open(found)
            waiting += pages[found].links
    return list(pages.values())
