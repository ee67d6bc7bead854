"""The pages of tasks over real HTTP: list, add, edit and delete."""

import asyncio
import re
from html import unescape
from typing import Any

import pytest

from taskapp.config.settings import Settings
from taskapp.operations.tasks import require_task
from taskapp.queries.tasks import Task
from tests.support.clients import ApiClient
from tests.support.database_fixtures import add_tasks, execute
from tests.support.page_client import HOSTILE, PageClient, stored, titles
from tests.support.page_reader import Page

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test
UNUSUAL = [
    "שלום עולם",
    "مرحبا",
    "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER} \N{WHITE FLAG}",
    "e\N{COMBINING ACUTE ACCENT} and é",
    "\N{MATHEMATICAL FRAKTUR CAPITAL U}",
    "a\N{RIGHT-TO-LEFT OVERRIDE}b",
]
LONG = "x" * 300


# The list


async def test_a_list_without_tasks_says_what_could_be_there(mine: PageClient) -> None:
    for query, words in [
        ("", "No tasks yet. Add your first task."),
        ("?status=pending", "No tasks yet. Add your first task."),
        ("?status=completed", "No completed tasks yet. Tasks you check off appear here."),
    ]:
        page = await mine.open(f"/tasks{query}")
        assert words in page.text
        assert page.titles == []


async def test_a_list_whose_tasks_are_all_done_says_so(mine: PageClient, alice: ApiClient) -> None:
    await alice.add_task("Done", status="completed")
    page = await mine.open("/tasks?status=pending")
    assert "All done. Nothing left to do." in page.text


async def test_the_list_shows_the_newest_first_with_its_texts(
    mine: PageClient, alice: ApiClient
) -> None:
    await alice.add_task("First", description="About the first")
    await alice.add_task("Second")
    page = await mine.open("/tasks")
    assert page.titles == ["Second", "First"]
    assert "About the first" in page.text
    assert "Logged in as alice@example.com" in page.text


async def test_a_browser_that_translates_leaves_titles_alone(
    mine: PageClient, alice: ApiClient
) -> None:
    await alice.add_task("Acheter du lait")
    page = await mine.open("/tasks")
    titles = [tag for tag in page.tags("p") if tag.get("class") == "title"]
    assert [tag["translate"] for tag in titles] == ["no"] * len(titles)
    assert len(titles) == 2  # that of the task, and that of one that is not saved yet


async def test_a_long_description_is_in_the_list_whole_behind_its_beginning(
    mine: PageClient, alice: ApiClient
) -> None:
    lines = [f"Point {number}" for number in range(30)]
    await alice.add_task("Minutes", description="\n".join(lines))
    page = await mine.open("/tasks")
    assert "Point 0 Point 1 Point 2… MoreLess Point 0 Point 1 Point 2 Point 3" in page.text
    assert "Point 29" in page.text


async def test_the_time_beside_a_completed_task_says_what_it_is(
    mine: PageClient, alice: ApiClient, settings: Settings
) -> None:
    task = await alice.add_task("Water the plants", status="completed")
    set_age = "UPDATE tasks SET %s = now() - make_interval(secs => %%s)"
    for column, seconds, meta, facts in [
        ("completed_at", 0, "Completed just now", "Completed"),
        ("completed_at", 320, "Completed 5 minutes ago", "Completed"),
        ("created_at", 22 * 86_400, "Completed 5 minutes ago", "Completed"),
        ("completed_at", None, "Added 3 weeks ago", "Created"),  # as before it was stored
    ]:
        execute(settings.database_url, set_age % column, seconds)
        assert meta_of(await mine.open("/tasks")) == meta
        edit = await mine.open(f"/tasks/{task['id']}/edit")
        assert (facts in edit.text, "Completed " in edit.text) == (True, facts == "Completed")
    mine.headers["Accept-Language"] = "de"
    assert meta_of(await mine.open("/tasks")) == "Hinzugefügt: vor 3 Wochen"
    await alice.put(f"/api/tasks/{task['id']}", {"status": "pending"})
    assert meta_of(await mine.open("/tasks")) == "vor 3 Wochen"


def meta_of(page: Page) -> str:
    """Return what stands beside the only task of a list, without what is hidden."""
    [meta] = re.findall(r'<p class="meta">(.*?</time>.*?)</p>', page.html)
    seen = re.sub(r"<span[^>]* hidden>.*?</span>", "", meta)
    return " ".join(re.sub(r"<[^>]*>", "", seen).split())


async def test_no_user_sees_the_tasks_of_another(
    mine: PageClient, bob: ApiClient, alice: ApiClient
) -> None:
    await bob.add_task("Bob's secret")
    await alice.add_task("Alice's own")
    page = await mine.open("/tasks")
    assert page.titles == ["Alice's own"]
    assert page.has_link("All 1")


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


async def test_completed_tasks_are_folded_below_the_pending_ones_the_latest_completion_first(
    mine: PageClient, alice: ApiClient, settings: Settings
) -> None:
    made = {title: await alice.add_task(title) for title in ("A", "B", "C", "D", "E")}
    for title in ("C", "A", "E"):
        await alice.put(f"/api/tasks/{made[title]['id']}", {"status": "completed"})
    page = await mine.open("/tasks")
    assert page.titles == ["D", "B", "E", "A", "C"]
    pending, folded = page.html.split('<details class="fold" id="completed">')
    assert (pending.count('<li class="task'), folded.count('<li class="task')) == (2, 3)
    assert "Completed 3" in page.text
    assert not page.has_link("All completed tasks")
    assert (await mine.open("/tasks?status=completed")).titles == ["E", "A", "C"]
    assert (await mine.open("/tasks?status=pending")).titles == ["D", "B"]
    assert await titles(alice) == ["E", "D", "C", "B", "A"]  # the API has one order
    # Of before it was stored: they come last.
    execute(settings.database_url, "UPDATE tasks SET completed_at = NULL WHERE title = 'E'")
    assert (await mine.open("/tasks")).titles == ["D", "B", "A", "C", "E"]
    page = await mine.submit("A")  # reopened
    assert page.titles == ["D", "B", "A", "C", "E"]
    assert page.html.index(">A</p>") < page.html.index('id="completed"')


async def test_a_second_click_on_the_box_does_not_lead_into_the_fold(
    mine: PageClient, alice: ApiClient
) -> None:
    for title in ("A", "B"):
        await alice.add_task(title, status="completed")
    task = await alice.add_task("C")
    for _ in range(2):
        address = f"/tasks/{task['id']}/status"
        page = await mine.fetch("POST", address, mine.csrf_field | {"status": "completed"})
        assert (page.status, page.location) == (303, "/tasks")


@pytest.mark.parametrize(("pending", "folded"), [(0, 50), (30, 20), (45, 5), (49, 5), (60, 5)])
async def test_completed_tasks_fill_the_room_of_the_page_and_a_link_leads_to_all(
    mine: PageClient, alice: ApiClient, empty_database: str, pending: int, folded: int
) -> None:
    add_tasks(empty_database, alice.user_id, pending)
    add_tasks(empty_database, alice.user_id, 60, status="completed")
    page = await mine.open("/tasks")
    assert len(page.rows) == 50
    assert sum(row.is_completed for row in page.rows) == folded
    assert "Completed 60" in page.text  # all of them, not those of the page
    assert page.link("All completed tasks") == "/tasks?status=completed"
    assert page.has_link("Load more") == (pending > 45)
    if pending > 45:
        page = await mine.open(page.link("Load more"))
        assert [row.is_completed for row in page.rows] == [False] * (pending - 45)
        assert 'id="completed"' not in page.html


async def test_a_list_without_completed_tasks_has_no_fold(
    mine: PageClient, alice: ApiClient
) -> None:
    await alice.add_task("A")
    assert '<details class="fold" id="completed" hidden>' in (await mine.open("/tasks")).html
    assert 'id="completed"' not in (await mine.open("/tasks?status=pending")).html


async def test_pages_of_completed_tasks_go_on_where_they_ended_whatever_is_reopened(
    mine: PageClient, alice: ApiClient, empty_database: str
) -> None:
    add_tasks(empty_database, alice.user_id, 120, status="completed")
    execute(
        empty_database,
        "UPDATE tasks SET completed_at = date_trunc('day', now()) WHERE id IN"
        " (SELECT id FROM tasks ORDER BY md5(id::text) LIMIT 70)",  # at the same moment
    )
    first = await mine.open("/tasks?status=completed")
    more = first.link("Load more")
    await alice.put(f"/api/tasks/{first.rows[-1].id}", {"status": "pending"})
    await alice.delete(f"/api/tasks/{first.rows[-2].id}")
    second = await mine.open(more)
    third = await mine.open(second.link("Load more"))
    ids = [row.id for page in (first, second, third) for row in page.rows]
    assert len(ids) == len(set(ids)) == 120


async def test_more_than_fifty_tasks_are_walked_page_by_page(
    mine: PageClient, alice: ApiClient
) -> None:
    for number in range(103):
        await alice.add_task(f"Task {number}", status="completed" if number % 2 else "pending")
    await _walk(mine, "/tasks", [50, 7])  # 45 of 52, and 5 in the fold
    await _walk(mine, "/tasks?status=pending", [50, 2])
    await _walk(mine, "/tasks?status=completed", [50, 1])


async def _walk(visitor: PageClient, address: str, sizes: list[int]) -> None:
    page = await visitor.open(address)
    assert not page.has_link("Back to newest")
    seen = [page.titles]
    while page.has_link("Load more"):
        page = await visitor.open(page.link("Load more"))
        assert page.link("Back to newest") == address
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
    assert page.link("Back to home") == "/"


# Adding


async def test_an_added_task_is_in_the_list_at_once(mine: PageClient, alice: ApiClient) -> None:
    response = await mine.send("Add", title="Buy milk", description="Oat")
    assert (response.status, response.location) == (303, "/tasks#new-title")
    page = await mine.follow(response)
    assert page.titles == ["Buy milk"]
    assert page.flash_message == "Task added."
    assert (await mine.open("/tasks")).flash_message == ""
    assert (await alice.get("/api/tasks")).json["tasks"][0]["description"] == "Oat"


async def test_the_button_below_the_description_sends_the_title_too(mine: PageClient) -> None:
    page = await mine.submit("Add task", title="Buy milk", description="Oat")
    assert page.titles == ["Buy milk"]
    assert "Oat" in page.text


async def test_a_task_needs_no_description(mine: PageClient) -> None:
    assert (await mine.add_task("Buy milk")).titles == ["Buy milk"]


@pytest.mark.parametrize(
    ("title", "description", "field", "message"),
    [
        ("", "Kept", "title", "Title is required"),
        ("   ", "Kept", "title", "Title is required"),
        (LONG, "Kept", "title", "Must be at most 255 characters (currently 300)"),
        ("Kept", "x" * 10_001, "description", "Must be at most 10,000 characters"),
        ("with a \0", "Kept", "title", "unsupported characters"),
    ],
)
async def test_a_refused_task_keeps_both_texts_and_says_why_beside_the_field(
    mine: PageClient, alice: ApiClient, title: str, description: str, field: str, message: str
) -> None:
    page = await mine.send("Add", title=title, description=description)
    assert page.status == 400
    assert page.text.startswith("Error: Tasks")
    assert message in page.error_beside("Add", field)
    assert page.form("Add").fields["title"] == title
    assert page.form("Add").fields["description"] == description
    assert ["open" in tag for tag in page.tags("details")] == [True, False, False]
    assert [tag["name"] for tag in page.focused] == [field]
    assert await titles(alice) == []
    assert (await mine.submit("Add", title="Better", description="")).titles == ["Better"]


async def test_a_form_that_is_sent_twice_makes_one_task(mine: PageClient, alice: ApiClient) -> None:
    form = mine.page
    await mine.send("Add", title="Buy milk")
    mine.page = form
    assert (await mine.send("Add", title="Buy milk")).status == 303
    assert await titles(alice) == ["Buy milk"]


@pytest.mark.parametrize("altered", [{"title": "Buy soap"}, {"description": "Oat"}])
async def test_what_was_altered_before_a_form_was_sent_again_is_not_lost(
    mine: PageClient, alice: ApiClient, altered: dict[str, str]
) -> None:
    form = mine.page
    await mine.send("Add", title="Buy milk")
    mine.page = form
    page = await mine.submit("Add", **{"title": "Buy milk"} | altered)
    assert len(page.rows) == 2
    (task, _) = (await alice.get("/api/tasks")).json["tasks"]
    assert task.items() >= altered.items()


async def test_a_double_click_makes_one_task(mine: PageClient, alice: ApiClient) -> None:
    form = mine.page.form("Add")
    fields = form.fields | {"title": "Buy milk"}
    responses = await asyncio.gather(*(mine.fetch("POST", "/tasks", fields) for _ in range(5)))
    assert [response.status for response in responses] == [303] * 5
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
    assert page.link(f"Edit: {text}") == f"/tasks/{kept['id']}/edit"
    assert page.link(f"Delete: {text}") == f"/tasks/{kept['id']}/delete"
    for address in ("/tasks", f"/tasks/{kept['id']}/edit", f"/tasks/{kept['id']}/delete"):
        page = await mine.open(address)
        assert text in unescape(page.html)
        assert page.tags("svg") == []
        assert [set(tag) for tag in page.tags("script")] == [{"type", "src"}]
        assert page.html.count("</title>") == 1
        assert "49" not in page.text.replace(kept["id"], "").split()


async def test_a_list_that_has_tasks_takes_the_focus_only_where_something_is_typed(
    mine: PageClient,
) -> None:
    def focused() -> list[str]:
        return [tag["name"] for tag in mine.page.focused]

    await mine.open("/tasks")
    assert focused() == ["title"]
    page = await mine.submit("Add", title="Buy milk")
    assert (focused(), page.form("Add").described) == ([], {"title": ["flash-text"]})
    for address, names in [
        ("/tasks", []),
        ("/tasks?status=pending", []),
        ("/tasks?status=completed", ["title"]),  # empty
        ("/tasks?title=Buy+bread", ["title"]),  # a text from elsewhere
    ]:
        await mine.open(address)
        assert focused() == names


# Editing


async def test_an_edited_task_is_saved_and_shown(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    await mine.open("/tasks")
    page = await mine.open(mine.page.link("Edit: Buy milk"))
    assert page.form("Save").fields["title"] == "Buy milk"
    assert page.form("Save").fields["description"] == "Oat"
    response = await mine.send("Save", title="Buy bread", description="Rye")
    assert (response.status, response.location) == (303, f"/tasks#task-{task['id']}")
    page = await mine.follow(response)
    assert page.titles == ["Buy bread"]
    assert page.flash_message == "Task saved."
    kept = await stored(alice, task)
    assert (kept["title"], kept["description"], kept["status"]) == ("Buy bread", "Rye", "pending")


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"title": ""}, "title", "Title is required"),
        ({"title": LONG}, "title", "currently 300"),
        ({"description": "x" * 10_001}, "description", "currently 10,001"),
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
    assert page.text.startswith("Error: Edit task")
    assert message in page.error_beside("Save", field)
    for name, text in change.items():
        assert page.form("Save").fields[name] == text
    assert await stored(alice, task) == task
    assert (await mine.send("Save", title="Better", description="")).status == 303


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
    assert "This task has changed since you opened it" in page.text
    assert "By the other" in page.text
    assert "Theirs" in page.text
    assert page.form("Save mine").fields["title"] == "By me"
    assert page.form("Save mine").fields["description"] == "Mine"
    assert (await stored(alice, task))["title"] == "By the other"
    assert (await mine.submit("Save mine")).titles == ["By me"]


@pytest.mark.parametrize(("theirs", "ours"), [("oat", "rye"), ("<b>", ""), ("", "<i>rye</i>")])
async def test_a_conflict_marks_what_differs_and_only_that(
    mine: PageClient, alice: ApiClient, theirs: str, ours: str
) -> None:
    text = "First line\nBuy {} milk & bread\nLast line"
    task = await alice.add_task("Shopping", description=text.format("soy"))
    await mine.open(f"/tasks/{task['id']}/edit")
    await alice.put(f"/api/tasks/{task['id']}", {"description": text.format(theirs)})
    page = await mine.send("Save", description=text.format(ours))
    assert page.status == 409
    saved, yours = re.findall(r"<dd[^>]*>(.*?)</dd>", page.html, re.DOTALL)
    for shown, element, word in [(saved, "del", theirs), (yours, "ins", ours)]:
        assert unescape(re.sub(f"</?{element}>", "", shown)) == text.format(word)
        marked = unescape("".join(re.findall(f"<{element}>(.*?)</{element}>", shown, re.DOTALL)))
        assert marked.strip() == word
    assert "Status: Pending" in page.text


async def test_a_title_alone_is_saved_if_it_is_as_it_was_shown(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    async def send(title: str, was: str) -> Page:
        address = f"/tasks/{task['id']}/edit"
        return await mine.fetch("POST", address, mine.csrf_field | {"title": title, "was": was})

    await alice.put(f"/api/tasks/{task['id']}", {"description": "Rye", "status": "completed"})
    for _ in range(2):  # and a second click
        page = await send("Buy bread", "Buy milk")
        assert (page.status, page.location) == (303, f"/tasks#task-{task['id']}")
    kept = await stored(alice, task)
    assert (kept["title"], kept["description"], kept["status"]) == ("Buy bread", "Rye", "completed")
    mine.page = page = await send("Buy soap", "Buy milk")
    assert page.status == 409
    assert "Buy bread" in page.text
    assert "Saved version" in page.text
    assert (
        page.form("Save mine").fields.items() >= {"title": "Buy soap", "description": "Rye"}.items()
    )
    mine.page = page = await send("", "Buy bread")
    assert page.status == 400
    assert "Title is required" in page.error_beside("Save", "title")
    assert page.form("Save").fields["description"] == "Rye"
    assert (await stored(alice, task))["title"] == "Buy bread"
    assert (await mine.send("Save", title="Buy soap")).status == 303
    assert (await stored(alice, task))["title"] == "Buy soap"


async def test_a_tick_that_overtakes_a_title_is_no_conflict(
    mine: PageClient, alice: ApiClient, task: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes = ["completed", "pending", "completed"]

    async def require_and_tick(*arguments: Any) -> Task:
        found = await require_task(*arguments)
        if wishes:
            await alice.put(f"/api/tasks/{task['id']}", {"status": wishes.pop()})
        return found

    monkeypatch.setattr("handlers.pages.tasks.require_task", require_and_tick)
    fields = mine.csrf_field | {"title": "Buy bread", "was": "Buy milk"}
    assert (await mine.fetch("POST", f"/tasks/{task['id']}/edit", fields)).status == 303
    kept = await stored(alice, task)
    assert (kept["title"], kept["status"]) == ("Buy bread", "completed")


@pytest.mark.parametrize("title", ["a\nb", "a\r\nb", "a\rb", "<b>&amp;", "  "])
async def test_a_title_of_any_text_can_be_edited_alone(
    mine: PageClient, alice: ApiClient, title: str
) -> None:
    task = await alice.add_task(f"x{title}y")
    shown = re.sub("\r\n?", "\n", task["title"])  # as a browser reads it
    fields = mine.csrf_field | {"title": "New", "was": shown}
    assert (await mine.fetch("POST", f"/tasks/{task['id']}/edit", fields)).status == 303
    assert (await stored(alice, task))["title"] == "New"


async def test_the_saved_version_is_taken_by_a_click_that_changes_nothing(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    await mine.open(f"/tasks/{task['id']}/edit")
    saved = (await alice.put(f"/api/tasks/{task['id']}", {"title": "By the other"})).json
    await mine.send("Save", title="", description="Mine")
    await mine.send("Save", title="By me", description="")
    response = await mine.send("Take the saved one")
    assert (response.status, response.location) == (303, f"/tasks#task-{task['id']}")
    assert (await mine.follow(response)).titles == ["By the other"]
    assert await stored(alice, task) == saved


async def test_saving_twice_by_a_double_click_is_no_conflict(
    mine: PageClient, task: dict[str, str]
) -> None:
    form = await mine.open(f"/tasks/{task['id']}/edit")
    await mine.send("Save", title=" By me ")
    mine.page = form
    assert (await mine.send("Save", title=" By me ")).status == 303


# Deleting


async def test_deleting_asks_first_and_then_deletes(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    await mine.open("/tasks")
    page = await mine.open(mine.page.link("Delete: Buy milk"))
    assert page.text.startswith("Delete task · taskapp")
    assert "Delete this task? Buy milk Oat" in page.text
    assert page.link("Cancel") == f"/tasks#task-{task['id']}"
    assert await titles(alice) == ["Buy milk"]
    response = await mine.send("Delete")
    assert (response.status, response.location) == (303, "/tasks")
    page = await mine.follow(response)
    assert page.flash_message == "Task deleted. Undo"
    assert page.titles == []
    assert await titles(alice) == []
