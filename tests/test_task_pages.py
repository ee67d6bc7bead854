"""The pages of tasks, over real HTTP: each works, refuses, and never loses what was typed."""

import asyncio
from typing import Any

import pytest
from markupsafe import escape
from uuid_utils import uuid7

from handlers.application import Application
from taskapp.services import Services
from tests.clients import ApiClient
from tests.page_client import PASSWORD, Page, PageClient

pytestmark = pytest.mark.gen_test
ALICE = "alice@example.com"
HOSTILE = ['"><svg onload=alert(1)>', "{{7*7}}", "</title>", "<script>alert(1)</script>", "' OR 1"]
UNUSUAL = [
    "שלום עולם",
    "مرحبا",
    "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER} \N{WHITE FLAG}",
    "e\N{COMBINING ACUTE ACCENT} and é",
    "\N{MATHEMATICAL FRAKTUR CAPITAL U}",
    "a\N{RIGHT-TO-LEFT OVERRIDE}b",
]
ELSEWHERE = [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
LONG = "x" * 300


@pytest.fixture
def visitor(http_client: Any, base_url: str, app: Application) -> PageClient:
    return PageClient(http_client, base_url)


@pytest.fixture
def mine(visitor: PageClient, alice: ApiClient, io_loop: Any) -> PageClient:
    """The browser of Alice, who is logged in."""
    io_loop.run_sync(lambda: visitor.log_in(ALICE))
    return visitor


@pytest.fixture
def task(alice: ApiClient, io_loop: Any) -> dict[str, str]:
    """A task of Alice."""
    made: dict[str, str] = io_loop.run_sync(lambda: alice.add_task("Buy milk", description="Oat"))
    return made


async def titles(api: ApiClient) -> list[str]:
    listed = await api.get("/api/tasks")
    return [task["title"] for task in listed.json["tasks"]]


async def stored(api: ApiClient, task: dict[str, str]) -> dict[str, str]:
    found: dict[str, str] = (await api.get(f"/api/tasks/{task['id']}")).json
    return found


# The list


async def test_a_list_without_tasks_says_so(mine: PageClient) -> None:
    assert "No tasks yet. Write down the first one above." in mine.page.text
    page = await mine.open("/tasks?status=completed")
    assert "Nothing completed yet." in page.text


async def test_a_list_whose_tasks_are_all_done_says_so(mine: PageClient, alice: ApiClient) -> None:
    await alice.add_task("Done", status="completed")
    assert "Nothing left to do." in (await mine.open("/tasks?status=pending")).text


async def test_the_list_shows_the_newest_first_with_its_texts(
    mine: PageClient, alice: ApiClient
) -> None:
    await alice.add_task("First", description="About the first")
    await alice.add_task("Second")
    page = await mine.open("/tasks")
    assert page.titles == ["Second", "First"]
    assert "About the first" in page.text


async def test_nobody_sees_the_tasks_of_somebody_else(
    mine: PageClient, bob: ApiClient, alice: ApiClient
) -> None:
    await bob.add_task("Bob's secret")
    await alice.add_task("Alice's own")
    assert (await mine.open("/tasks")).titles == ["Alice's own"]


async def test_a_filter_is_kept_in_the_address_and_counts(
    mine: PageClient, alice: ApiClient
) -> None:
    await alice.add_task("To do")
    await alice.add_task("To do as well")
    await alice.add_task("Done", status="completed")
    page = await mine.open("/tasks")
    assert page.link("All 3") == "/tasks"
    assert page.link("Pending 2") == "/tasks?status=pending"
    page = await mine.open(page.link("Completed 1"))
    assert page.titles == ["Done"]
    current = [tag["href"] for tag in page.tags("a") if "aria-current" in tag]
    assert current == ["/tasks?status=completed"]


async def test_more_than_fifty_tasks_are_walked_page_by_page(
    mine: PageClient, alice: ApiClient
) -> None:
    for number in range(103):
        await alice.add_task(f"Task {number}", status="completed" if number % 2 else "pending")
    await _walk(mine, "/tasks", [50, 50, 3])
    await _walk(mine, "/tasks?status=pending", [50, 2])


async def _walk(visitor: PageClient, address: str, sizes: list[int]) -> None:
    page = await visitor.open(address)
    seen = [page.titles]
    while page.has_link("More tasks"):
        page = await visitor.open(page.link("More tasks"))
        seen.append(page.titles)
    assert [len(part) for part in seen] == sizes
    assert len({title for part in seen for title in part}) == sum(sizes)


@pytest.mark.parametrize(
    "query", ["status=nonsense", "status=pending&status=completed", "after=altered", "after=%ff"]
)
async def test_an_address_that_makes_no_sense_is_an_error_page(
    mine: PageClient, query: str
) -> None:
    page = await mine.open(f"/tasks?{query}")
    assert page.status == 400
    assert page.link("Back to the start") == "/"


# Adding


async def test_an_added_task_is_in_the_list_at_once(mine: PageClient, alice: ApiClient) -> None:
    answer = await mine.send("Add", title="Buy milk", description="Oat")
    assert (answer.status, answer.location) == (303, "/tasks")
    page = await mine.follow(answer)
    assert page.titles == ["Buy milk"]
    assert "Task added." in page.text
    assert "Task added." not in (await mine.open("/tasks")).text
    assert (await alice.get("/api/tasks")).json["tasks"][0]["description"] == "Oat"


async def test_a_task_needs_no_description(mine: PageClient) -> None:
    assert (await mine.add_task("Buy milk")).titles == ["Buy milk"]


@pytest.mark.parametrize(
    ("title", "description", "field", "message"),
    [
        ("", "Kept", "title", "A task needs a title."),
        ("   ", "Kept", "title", "A task needs a title."),
        (LONG, "Kept", "title", "At most 255 characters are possible; this has 300."),
        ("Kept", "x" * 10_001, "description", "At most 10,000 characters are possible"),
        ("with a \0", "Kept", "title", "cannot be stored"),
    ],
)
async def test_a_refused_task_keeps_both_texts_and_says_why_beside_the_field(
    mine: PageClient, alice: ApiClient, title: str, description: str, field: str, message: str
) -> None:
    page = await mine.send("Add", title=title, description=description)
    assert page.status == 400
    assert message in page.error_beside("Add", field)
    assert page.form("Add").fields["title"] == title
    assert page.form("Add").fields["description"] == description
    assert any("open" in tag for tag in page.tags("details"))
    fields = [*page.tags("input"), *page.tags("textarea")]
    assert [tag["name"] for tag in fields if "autofocus" in tag] == [field]
    assert await titles(alice) == []
    assert (await mine.submit("Add", title="Better", description="")).titles == ["Better"]


async def test_a_form_that_is_sent_twice_makes_one_task(mine: PageClient, alice: ApiClient) -> None:
    form = mine.page
    await mine.send("Add", title="Buy milk")
    mine.page = form
    assert (await mine.send("Add", title="Buy milk")).status == 303
    assert await titles(alice) == ["Buy milk"]


async def test_a_double_click_makes_one_task(mine: PageClient, alice: ApiClient) -> None:
    form = mine.page.form("Add")
    fields = form.fields | {"title": "Buy milk"}
    answers = await asyncio.gather(*(mine.fetch("POST", "/tasks", fields) for _ in range(5)))
    assert [answer.status for answer in answers] == [303] * 5
    assert await titles(alice) == ["Buy milk"]


async def test_each_form_makes_a_task_of_its_own(mine: PageClient, alice: ApiClient) -> None:
    await mine.add_task("Buy milk")
    await mine.add_task("Buy milk")
    assert await titles(alice) == ["Buy milk", "Buy milk"]


@pytest.mark.parametrize("text", [*UNUSUAL, *HOSTILE])
async def test_any_text_is_kept_and_shown_as_it_was_typed(
    mine: PageClient, alice: ApiClient, text: str
) -> None:
    page = await mine.add_task(text, f"{text}\n{text}")
    assert page.titles == [text]
    kept = (await alice.get("/api/tasks")).json["tasks"][0]
    assert (kept["title"], kept["description"]) == (text, f"{text}\n{text}")
    for address in ("/tasks", f"/tasks/{kept['id']}/edit", f"/tasks/{kept['id']}/delete"):
        page = await mine.open(address)
        assert str(escape(text)) in page.html
        assert "<svg" not in page.html
        assert "<script" not in page.html
        assert page.html.count("</title>") == 1
        assert "49" not in page.text.replace(kept["id"], "").split()


# Completing


async def test_completing_a_task_marks_it_and_can_be_taken_back(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    await mine.open("/tasks")
    answer = await mine.send("Buy milk")
    assert (answer.status, answer.location) == (303, f"/tasks#task-{task['id']}")
    page = await mine.follow(answer)
    assert page.is_checked("Buy milk")
    assert "Task completed." in page.text
    assert len(page.tags("s")) == 1
    assert (await stored(alice, task))["status"] == "completed"
    page = await mine.submit("Buy milk")
    assert not page.is_checked("Buy milk")
    assert "Task is pending again." in page.text


async def test_completing_stays_in_the_filter_and_on_the_page_of_the_list(
    mine: PageClient, alice: ApiClient
) -> None:
    for number in range(52):
        await alice.add_task(f"Task {number}")
    await mine.open("/tasks?status=pending")
    page = await mine.open(mine.page.link("More tasks"))
    assert page.titles == ["Task 1", "Task 0"]
    page = await mine.submit("Task 1")
    assert page.titles == ["Task 0"]
    assert "status=pending" in page.address


@pytest.mark.parametrize(
    "change", [{"status": "nonsense"}, {"status": None}, {"shown": "nonsense"}]
)
async def test_a_status_that_there_is_not_changes_nothing(
    mine: PageClient, alice: ApiClient, task: dict[str, str], change: dict[str, str | None]
) -> None:
    await mine.open("/tasks")
    assert (await mine.send("Buy milk", **change)).status == 400
    assert (await stored(alice, task))["status"] == "pending"


# Editing


async def test_an_edited_task_is_saved_and_shown(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    await mine.open("/tasks")
    page = await mine.open(mine.page.link("Edit Buy milk"))
    assert page.form("Save").fields["title"] == "Buy milk"
    assert page.form("Save").fields["description"] == "Oat"
    answer = await mine.send("Save", title="Buy bread", description="Rye", status="completed")
    assert (answer.status, answer.location) == (303, "/tasks")
    page = await mine.follow(answer)
    assert page.titles == ["Buy bread"]
    assert "Task saved." in page.text
    kept = await stored(alice, task)
    assert (kept["title"], kept["description"], kept["status"]) == ("Buy bread", "Rye", "completed")


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"title": ""}, "title", "A task needs a title."),
        ({"title": LONG}, "title", "this has 300"),
        ({"description": "x" * 10_001}, "description", "this has 10,001"),
        ({"status": "nonsense"}, "status", "pending or completed"),
    ],
)
async def test_a_refused_edit_keeps_the_texts_and_says_why_beside_the_field(
    mine: PageClient,
    alice: ApiClient,
    task: dict[str, str],
    change: dict[str, str],
    field: str,
    message: str,
) -> None:
    await mine.open(f"/tasks/{task['id']}/edit")
    page = await mine.send("Save", **change)
    assert page.status == 400
    assert message in page.error_beside("Save", field)
    for name, text in change.items():
        assert name == "status" or page.form("Save").fields[name] == text
    assert await stored(alice, task) == task
    assert (await mine.send("Save", title="Better", description="", status="pending")).status == 303


@pytest.mark.parametrize(
    "description",
    ["\na line end first", "a\n\nb\n", "\n", "  spaces  ", "a\r\nb\r\n", "a\rb"],
)
async def test_a_description_survives_an_edit_of_the_title_unchanged(
    mine: PageClient, alice: ApiClient, description: str
) -> None:
    task = await alice.add_task("Buy milk", description=description)
    await mine.open(f"/tasks/{task['id']}/edit")
    shown = mine.page.form("Save").fields["description"]
    as_a_browser_reads = shown.replace("\r\n", "\n").replace("\r", "\n")
    await mine.send("Save", title="Buy bread", description=as_a_browser_reads)
    kept = await stored(alice, task)
    assert (kept["title"], kept["description"]) == ("Buy bread", description)


async def test_line_ends_that_are_typed_are_kept_as_line_feeds(
    mine: PageClient, alice: ApiClient
) -> None:
    await mine.send("Add", title="Lines", description="\none\ntwo\n")
    assert (await alice.get("/api/tasks")).json["tasks"][0]["description"] == "\none\ntwo\n"


async def test_a_conflict_shows_both_texts_and_then_saving_works(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    await mine.open(f"/tasks/{task['id']}/edit")
    await alice.put(f"/api/tasks/{task['id']}", {"title": "By the other", "description": "Theirs"})
    page = await mine.send("Save", title="By me", description="Mine")
    assert page.status == 409
    assert "The task was changed meanwhile" in page.text
    assert "By the other" in page.text
    assert "Theirs" in page.text
    assert page.form("Save").fields["title"] == "By me"
    assert page.form("Save").fields["description"] == "Mine"
    assert (await stored(alice, task))["title"] == "By the other"
    assert (await mine.submit("Save")).titles == ["By me"]


async def test_saving_twice_by_a_double_click_is_no_conflict(
    mine: PageClient, task: dict[str, str]
) -> None:
    form = await mine.open(f"/tasks/{task['id']}/edit")
    await mine.send("Save", title=" By me ")
    mine.page = form
    assert (await mine.send("Save", title=" By me ")).status == 303


async def test_a_text_for_a_task_that_was_deleted_meanwhile_can_be_saved_as_a_new_one(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    await mine.open(f"/tasks/{task['id']}/edit")
    await alice.delete(f"/api/tasks/{task['id']}")
    page = await mine.send("Save", title="Long thought about", description="\nAnd typed")
    assert page.status == 404
    assert page.form("Save it as a new task").fields["title"] == "Long thought about"
    assert (await mine.submit("Save it as a new task")).titles == ["Long thought about"]
    assert (await alice.get("/api/tasks")).json["tasks"][0]["description"] == "\nAnd typed"


# Deleting


async def test_deleting_asks_first_and_then_deletes(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    await mine.open("/tasks")
    page = await mine.open(mine.page.link("Delete Buy milk"))
    assert page.text.startswith("Delete task · taskapp")
    assert "Delete this task?" in page.text
    assert "Buy milk" in page.text
    assert page.link("Keep it") == "/tasks"
    assert await titles(alice) == ["Buy milk"]
    answer = await mine.send("Delete")
    assert (answer.status, answer.location) == (303, "/tasks")
    page = await mine.follow(answer)
    assert "Task deleted." in page.text
    assert page.titles == []
    assert await titles(alice) == []


# Not yours, missing, signed out, not trusted


GETS = ["edit", "delete"]
POSTS = {
    "edit": {"title": "Changed", "description": "", "status": "pending"},
    "status": {"status": "completed"},
    "delete": {},
}


def _proof(visitor: PageClient) -> dict[str, str]:
    return {"_xsrf": visitor.cookies["taskapp-xsrf"]}


@pytest.mark.parametrize("page_name", GETS)
async def test_a_page_of_somebody_elses_task_is_refused(
    mine: PageClient, bob: ApiClient, page_name: str
) -> None:
    task = await bob.add_task("Bob's secret")
    page = await mine.open(f"/tasks/{task['id']}/{page_name}")
    assert page.status == 403
    assert "This task belongs to somebody else." in page.text
    assert "secret" not in page.text


@pytest.mark.parametrize("page_name", POSTS)
async def test_somebody_elses_task_cannot_be_changed(
    mine: PageClient, bob: ApiClient, page_name: str
) -> None:
    task = await bob.add_task("Bob's own")
    fields = _proof(mine) | POSTS[page_name]
    page = await mine.fetch("POST", f"/tasks/{task['id']}/{page_name}", fields)
    assert page.status == 403
    assert await stored(bob, task) == task


@pytest.mark.parametrize("task_id", [str(uuid7()), "1", "%00", "..%2f..%2fapi", "a" * 3000, "٣"])
@pytest.mark.parametrize("page_name", POSTS)
async def test_a_task_that_there_is_not_is_an_error_page(
    mine: PageClient, page_name: str, task_id: str
) -> None:
    fields = _proof(mine) | POSTS[page_name]
    pages = [await mine.fetch("POST", f"/tasks/{task_id}/{page_name}", fields)]
    if page_name in GETS:
        pages.append(await mine.fetch("GET", f"/tasks/{task_id}/{page_name}"))
    for page in pages:
        assert page.status == 404
        assert "There is no task with this id" in page.text


@pytest.mark.parametrize("page_name", GETS)
async def test_a_page_leads_a_stranger_to_the_login_page_and_back(
    visitor: PageClient, task: dict[str, str], page_name: str
) -> None:
    address = f"/tasks/{task['id']}/{page_name}"
    answer = await visitor.fetch("GET", address)
    assert (answer.status, answer.location) == (303, f"/login?next={address}")
    await visitor.follow(answer)
    page = await visitor.submit("Log in", email=ALICE, password=PASSWORD)
    assert page.address == address
    assert page.status == 200


@pytest.mark.parametrize("page_name", POSTS)
async def test_a_stranger_changes_nothing(
    visitor: PageClient, alice: ApiClient, task: dict[str, str], page_name: str
) -> None:
    await visitor.open("/login")
    fields = _proof(visitor) | POSTS[page_name]
    page = await visitor.fetch("POST", f"/tasks/{task['id']}/{page_name}", fields)
    assert page.status == (401 if page_name == "edit" else 303)
    assert page.has_form("Log in") or page.location == "/login"
    assert await stored(alice, task) == task


@pytest.mark.parametrize("page_name", POSTS)
@pytest.mark.parametrize("headers", [None, *ELSEWHERE])
async def test_a_form_that_no_page_of_ours_sent_changes_nothing(
    mine: PageClient,
    alice: ApiClient,
    task: dict[str, str],
    page_name: str,
    headers: dict[str, str] | None,
) -> None:
    proof = _proof(mine) if headers else {}
    fields = proof | POSTS[page_name]
    mine.headers = headers or {}
    page = await mine.fetch("POST", f"/tasks/{task['id']}/{page_name}", fields)
    assert page.status == 403
    assert "The form has to be sent once more" in page.text
    assert await stored(alice, task) == task


@pytest.mark.parametrize("headers", [None, *ELSEWHERE])
async def test_what_was_typed_into_an_untrusted_add_form_can_be_sent_again(
    mine: PageClient, alice: ApiClient, headers: dict[str, str] | None
) -> None:
    without: dict[str, str | None] = {} if headers else {"_xsrf": None}
    mine.headers = headers or {}
    page = await mine.send("Add", title="Typed", description="\nlong", **without)
    mine.headers = {}
    assert page.status == 403
    assert page.form("Send it again").fields["title"] == "Typed"
    assert (await mine.submit("Send it again")).titles == ["Typed"]
    assert (await alice.get("/api/tasks")).json["tasks"][0]["description"] == "\nlong"


async def test_what_was_typed_into_an_untrusted_edit_form_can_be_sent_again(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    await mine.open(f"/tasks/{task['id']}/edit")
    page = await mine.send("Save", title="Typed", status="completed", _xsrf="forged")
    assert page.status == 403
    assert (await mine.submit("Send it again")).titles == ["Typed"]
    assert (await stored(alice, task))["status"] == "completed"


# Text that is never lost


async def test_what_was_typed_while_the_session_ended_is_added_after_the_login(
    mine: PageClient, alice: ApiClient
) -> None:
    del mine.cookies["taskapp-session"]
    page = await mine.send("Add", title="Typed for long", description="\nWith <care>")
    assert page.status == 401
    assert "Your session has ended." in page.text
    await mine.send("Log in", email=ALICE, password="wrong at first")
    page = await mine.send("Log in", email=ALICE, password=PASSWORD)
    assert page.form("Save it now").fields["title"] == "Typed for long"
    assert page.form("Save it now").fields["description"] == "\nWith <care>"
    assert page.has_form("Log out")
    assert (await mine.submit("Save it now")).titles == ["Typed for long"]
    assert (await alice.get("/api/tasks")).json["tasks"][0]["description"] == "\nWith <care>"


async def test_an_edit_that_was_typed_while_the_session_ended_is_saved_after_the_login(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    form = await mine.open(f"/tasks/{task['id']}/edit")
    await mine.send("Log out")
    mine.cookies["taskapp-session"] = "is over"
    mine.page = form
    page = await mine.send("Save", title="Typed for long", status="completed")
    assert page.status == 401
    assert "taskapp-session" not in mine.cookies
    page = await mine.send("Log in", email=ALICE, password=PASSWORD)
    assert page.form("Save it now").fields["title"] == "Typed for long"
    assert (await mine.submit("Save it now")).titles == ["Typed for long"]
    assert (await stored(alice, task))["status"] == "completed"


async def test_an_edit_after_the_login_still_notices_a_conflict(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    await mine.open(f"/tasks/{task['id']}/edit")
    del mine.cookies["taskapp-session"]
    await mine.send("Save", title="By me")
    await alice.put(f"/api/tasks/{task['id']}", {"title": "By the other"})
    await mine.send("Log in", email=ALICE, password=PASSWORD)
    page = await mine.send("Save it now")
    assert page.status == 409
    assert "By the other" in page.text


async def test_what_was_typed_survives_a_database_that_is_away(
    mine: PageClient, services: Services, alice: ApiClient, task: dict[str, str]
) -> None:
    add_form = await mine.open("/tasks")
    edit_form = await mine.open(f"/tasks/{task['id']}/edit")
    await services.database.close()
    mine.page = add_form
    added = await mine.send("Add", title="Typed", description="At length")
    mine.page = edit_form
    edited = await mine.send("Save", title="Edited", description="At length")
    await services.database.open(services.settings.database_url)
    for page, title in ((added, "Typed"), (edited, "Edited")):
        assert page.status == 503
        assert "Try again in 2 seconds." in page.text
        assert page.form("Send it again").fields["title"] == title
        assert page.form("Send it again").fields["description"] == "At length"
        mine.page = page
        assert (await mine.send("Send it again")).status == 303
    assert await titles(alice) == ["Typed", "Edited"]


async def test_a_broken_form_keeps_what_can_be_read_of_it(mine: PageClient) -> None:
    token = mine.cookies["taskapp-xsrf"].encode("ascii")
    page = await mine.fetch("POST", "/tasks", b"_xsrf=" + token + b"&title=Typed&description=%ff")
    assert page.status == 400
    assert page.form("Send it again").fields["title"] == "Typed"


# All pages


async def test_an_unknown_address_is_a_page_and_leads_back(visitor: PageClient) -> None:
    for method, address in (("GET", "/nowhere"), ("POST", "/nowhere"), ("GET", "/tasks/")):
        page = await visitor.fetch(method, address, b"" if method == "POST" else None)
        assert page.status == 404
        assert page.headers["Content-Type"] == "text/html; charset=UTF-8"
        assert "There is nothing at this address." in page.text
        assert page.link("Back to the start") == "/"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_a_method_that_a_page_has_not_is_refused_with_those_it_has(
    mine: PageClient, method: str
) -> None:
    page = await mine.fetch(method, "/tasks", b"")
    assert (page.status, page.headers["Allow"]) == (405, "GET, HEAD, OPTIONS, POST")


async def test_head_answers_as_get_does_without_the_page(
    mine: PageClient, visitor: PageClient, task: dict[str, str]
) -> None:
    for address in ("/tasks", f"/tasks/{task['id']}/edit", f"/tasks/{task['id']}/delete"):
        page = await mine.fetch("HEAD", address)
        assert (page.status, page.html) == (200, "")
    assert (await mine.fetch("HEAD", "/nowhere")).status == 404
    mine.cookies.clear()
    for address in ("/login", "/register"):
        assert (await mine.fetch("HEAD", address)).status == 200
    assert (await mine.fetch("HEAD", "/tasks")).location == "/login?next=/tasks"


async def test_no_page_of_a_person_is_kept_by_the_browser(
    mine: PageClient, task: dict[str, str]
) -> None:
    for address in ("/tasks", f"/tasks/{task['id']}/edit", f"/tasks/{task['id']}/delete", "/none"):
        assert (await mine.open(address)).headers["Cache-Control"] == "no-store"


async def test_every_page_is_sound_html(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    await alice.add_task("Done", status="completed")
    pages = [
        await mine.open(address)
        for address in (
            "/tasks",
            f"/tasks/{task['id']}/edit",
            f"/tasks/{task['id']}/delete",
            "/nowhere",
            "/api/docs",
            "/tasks",
        )
    ]
    await mine.send("Add", title="")
    pages.append(mine.page)
    mine.cookies.clear()
    pages += [await mine.open(address) for address in ("/login", "/register")]
    for page in pages:
        _check(page)


def _check(page: Page) -> None:
    """Check what assistive technology depends on."""
    everything = [tag for name in ("input", "textarea", "button", "a") for tag in page.tags(name)]
    ids = [tag["id"] for tag in everything if "id" in tag]
    assert len(ids) == len(set(ids))
    assert len(page.tags("h1")) == len(page.tags("main")) == len(page.tags("title")) == 1
    assert page.tags("html")[0]["lang"] == "en"
    labelled = {tag["for"] for tag in page.tags("label") if "for" in tag}
    for tag in [*page.tags("input"), *page.tags("textarea")]:
        if tag.get("type") not in {"hidden", "radio"}:
            assert tag["id"] in labelled
    for tag in everything:
        assert all(name in page.ids for name in tag.get("aria-describedby", "").split())
        assert not any(name.startswith("on") for name in tag)
        assert "style" not in tag
    assert not page.tags("script")


# Below a base path


@pytest.mark.parametrize("setting_changes", [{"TASKAPP_BASE_PATH": "/sub"}])
async def test_below_a_base_path_every_link_form_and_redirect_stays_below_it(
    visitor: PageClient,
) -> None:
    for address in ("/sub", "/sub/"):
        assert (await visitor.fetch("GET", address)).location == "/sub/login"
    assert (await visitor.fetch("GET", "/sub/tasks")).location == "/sub/login?next=/sub/tasks"
    pages = [await visitor.open("/sub/register")]
    pages.append(await visitor.submit("Make my account", email=ALICE, password=PASSWORD))
    pages.append(await visitor.submit("Log in", email=ALICE, password=PASSWORD, next="/sub/tasks"))
    pages.append(await visitor.submit("Add", title="Buy milk"))
    pages.append(await visitor.submit("Buy milk"))
    pages.append(await visitor.open(visitor.page.link("Edit Buy milk")))
    pages.append(await visitor.submit("Save", title="Buy bread"))
    pages.append(await visitor.open(visitor.page.link("Delete Buy bread")))
    pages.append(await visitor.submit("Delete"))
    pages.append(await visitor.open("/sub/nowhere"))
    pages.append(await visitor.submit("Log out"))
    assert [page.status for page in pages] == [200] * 9 + [404, 200]
    for page in pages:
        assert page.address.startswith("/sub/")
        inner = [each for each in page.references if not each.startswith("#")]
        assert all(each.startswith("/sub/") or each == "" for each in inner), inner
    assert (await visitor.fetch("GET", pages[0].tags("link")[0]["href"])).status == 200
    assert (await visitor.fetch("GET", "/tasks")).status == 404


@pytest.mark.parametrize("setting_changes", [{"TASKAPP_BASE_PATH": "/sub"}])
@pytest.mark.parametrize("wanted", ["/sub//evil.example", "/sub/\\evil.example", "/elsewhere"])
async def test_below_a_base_path_a_login_leads_nowhere_else(
    visitor: PageClient, wanted: str
) -> None:
    await visitor.open("/sub/register")
    await visitor.submit("Make my account", email=ALICE, password=PASSWORD)
    answer = await visitor.send("Log in", email=ALICE, password=PASSWORD, next=wanted)
    assert answer.location.startswith("/sub/")
