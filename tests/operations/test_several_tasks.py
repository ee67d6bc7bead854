"""Pasted lines become a task each: all or none, once, in their order."""

import asyncio
import json
from contextlib import suppress
from time import process_time

import psycopg2.errors
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.tables import IDEMPOTENCY_KEY_LENGTH, TITLE_LENGTH
from taskapp.auth.signing import SessionToken
from taskapp.core.errors import Invalid, NotAuthenticated
from taskapp.core.messages import Message
from taskapp.forms.pasted_titles import MAX_TITLES, read_titles
from taskapp.operations.tasks import create_task, create_tasks, list_tasks
from taskapp.queries.bulk_tasks import insert_tasks
from taskapp.services import Services
from tests.support.api_tools import statement_counts
from tests.support.database_fixtures import add_session, add_tasks, add_user

pytestmark = pytest.mark.gen_test

LINE_ENDS = ["\n", "\r\n", "\r"]
BLANK = ["", " ", "\t\u3000", "\u200b\ufeff", "\u2028", "\0"]
TITLES = [
    *("Buy milk", "  Call Ada\t", "x" * TITLE_LENGTH, "\U0001f469\u200d\U0001f680", "[ %s {0}]"),
    *("a\u2028b", "a\u2029b", "a\x0bb", "a\x0cb", "a\x1cb", "a\x85b"),  # splitlines() splits these
]


@pytest.fixture
def alice(empty_database: str) -> SessionToken:
    """Return a session of Alice, who owns."""
    return add_session(empty_database, add_user(empty_database, "alice"))


@pytest.fixture
def bob(empty_database: str) -> SessionToken:
    """Return a session of Bob, the stranger."""
    return add_session(empty_database, add_user(empty_database, "bob"))


async def titles_of(services: Services, session: SessionToken) -> list[str]:
    _, page = await list_tasks(services, session, status=None, after=None, limit=1000)
    assert page
    assert {(task.status, task.description) for task in page.tasks} <= {("pending", "")}
    return [task.title for task in page.tasks]


def refusal_of(text: str) -> Message:
    with pytest.raises(Invalid) as refusal:
        read_titles(text)
    [(field, message)] = refusal.value.errors.items()
    assert field == "titles"
    assert isinstance(message, Message)
    return message


# Reading the lines


@given(
    st.lists(
        st.tuples(st.sampled_from([*BLANK, *TITLES]), st.sampled_from(LINE_ENDS)),
        max_size=MAX_TITLES,
    )
)
def test_every_line_in_which_something_can_be_seen_is_a_title(lines: list[tuple[str, str]]) -> None:
    text = "".join(line + end for line, end in lines)
    titles = [line.strip() for line, _ in lines if line in TITLES]
    if titles:
        assert read_titles(text) == titles
    else:
        assert refusal_of(text) == "Enter at least one task"


BULLETS = [
    *(
        "- ",
        "* ",
        "+ ",
        "\u2022 ",
        "\u2022\t",
        "\u2022\xa0",
        "\u2013 ",
        "\u2014 ",
        "\u25e6 ",
        "\u25aa ",
        "\xb7 ",
    ),
    *("\uf0b7\t", "\uf0a7 ", "o\t", "  - ", "\t* ", "\u3000\u2022 "),
]
BOXES = [
    "[ ] ",
    "[x] ",
    "[X] ",
    "[] ",
    "\u2610 ",
    "\u2611 ",
    "\u2611\ufe0f ",
    "\u2612",
    "\u2705 ",
    "\u2713 ",
    "\u2b1c ",
]


@given(
    st.sampled_from(["", *BULLETS]),
    st.sampled_from(["", *BOXES]),
    st.sampled_from(["Buy milk", "\u8cb7\u3044\u7269", "x", "-5 degrees"]),
)
def test_a_pasted_line_loses_its_bullet_and_its_box(bullet: str, box: str, title: str) -> None:
    assert read_titles(f"{bullet}{box}{title}") == [title]


def test_no_second_bullet_or_box_is_lost() -> None:
    assert read_titles("- - 5 degrees\n[ ] [ ] brackets\n- [ ] - dash") == [
        *("- 5 degrees", "[ ] brackets", "- dash"),
    ]


@pytest.mark.parametrize("box", BOXES)
def test_a_number_belongs_to_the_title_unless_a_box_follows(box: str) -> None:
    assert read_titles(f"1. {box}Buy milk\n12) {box}Call Ada") == ["Buy milk", "Call Ada"]
    assert read_titles("3. Oktober feiern\n1) Buy") == ["3. Oktober feiern", "1) Buy"]


@pytest.mark.parametrize(
    "title",
    [
        *(
            "-5 degrees",
            "--verbose",
            "---x",
            "*bold*",
            "+49 30 1234",
            "o clock",
            "1984",
            "2.5 l milk",
        ),
        *(
            "[draft] letter",
            "[x]y",
            "[Ada]",
            "x",
            "o",
            "a - b",
            "a [ ] b",
            "#1",
            "> quote",
            "\u2014and",
        ),
    ],
)
def test_what_is_no_bullet_and_no_box_stays(title: str) -> None:
    assert read_titles(title) == [title]


@pytest.mark.parametrize(
    "line", ["-", "- ", "\u2022", "- [ ]", "* [x] ", "\u2610", "1. [ ] ", "[ ]"]
)
def test_an_empty_item_of_a_list_is_no_task(line: str) -> None:
    assert read_titles(f"Buy milk\n{line}\nCall Ada") == ["Buy milk", "Call Ada"]


def test_any_line_is_read_within_a_second() -> None:
    for line in ("-" + " " * 200_000 + "x", " " * 200_000, "[" * 200_000, "- " * 100_000):
        begin = process_time()
        with suppress(Invalid):
            read_titles(line)
        assert process_time() - begin < 1


@pytest.mark.parametrize("end", LINE_ENDS)
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("x" * (TITLE_LENGTH + 1), "must be at most 255 characters (currently 256)"),
        (f" {'x' * 1200} ", "must be at most 255 characters (currently 1,200)"),
        ("a\0b", "contains unsupported characters (NUL or an unpaired surrogate)"),
        ("\ud800", "contains unsupported characters (NUL or an unpaired surrogate)"),
    ],
)
def test_the_first_line_that_is_wrong_is_named_as_it_is_counted_on_the_screen(
    line: str, problem: str, end: str
) -> None:
    message = refusal_of(end.join(["Buy milk", "", line, "", "y" * 256, "\udfff"]))
    assert message == f"Line 3 {problem}"
    assert message.template.startswith("Line %(line)s ")  # a sentence that can be translated


def test_a_hundred_tasks_are_the_most() -> None:
    most = ["Buy milk", ""] * MAX_TITLES
    assert len(read_titles("\n".join(most))) == MAX_TITLES
    message = refusal_of("\n".join([*most, "x" * 256]))
    assert message == "You can add at most 100 tasks at once (currently 101)"


# Creating the tasks


@pytest.mark.parametrize("key", [None, "k" * IDEMPOTENCY_KEY_LENGTH])
async def test_the_first_line_is_on_top_of_the_list_and_the_others_are_below_it(
    services: Services, alice: SessionToken, bob: SessionToken, key: str | None
) -> None:
    await create_task(services, alice, {"title": "older"})
    lines = [f"line {number}" for number in range(MAX_TITLES)]
    assert await create_tasks(services, alice, "\n".join(lines), key=key) == MAX_TITLES
    await create_task(services, alice, {"title": "newer"})
    assert await titles_of(services, alice) == ["newer", *lines, "older"]
    assert await titles_of(services, bob) == []


async def test_the_same_form_makes_its_tasks_once_however_often_it_is_sent(
    services: Services, alice: SessionToken, bob: SessionToken
) -> None:
    text = "Buy milk\nCall Ada\nBuy milk"
    sent = (create_tasks(services, alice, text, key="form") for _ in range(5))
    assert await asyncio.gather(*sent) == [3] * 5
    assert await titles_of(services, alice) == text.split("\n")
    assert await create_tasks(services, bob, text, key="form") == 3
    assert await titles_of(services, bob) == text.split("\n")


async def test_a_line_that_was_altered_before_the_form_was_sent_again_is_not_lost(
    services: Services, alice: SessionToken
) -> None:
    await create_tasks(services, alice, "Buy milk\nCall Ada", key="form")
    assert await create_tasks(services, alice, "Buy milk\nCall Bea\nWrite", key="form") == 3
    assert await titles_of(services, alice) == ["Call Bea", "Write", "Buy milk", "Call Ada"]


async def test_other_forms_and_other_ways_to_add_make_tasks_of_their_own(
    services: Services, alice: SessionToken
) -> None:
    await create_task(services, alice, {"title": "Buy milk"}, key="form")
    for key in ("form", "another", None, None):
        assert await create_tasks(services, alice, "Buy milk", key=key) == 1
    assert await titles_of(services, alice) == ["Buy milk"] * 5


async def test_with_one_wrong_line_no_task_is_made(services: Services, alice: SessionToken) -> None:
    with pytest.raises(Invalid):
        await create_tasks(services, alice, f"Buy milk\n{'x' * 256}\nCall Ada", key="form")
    with pytest.raises(psycopg2.errors.CheckViolation):  # as if only the database noticed
        await insert_tasks(
            services.database, alice, ["Buy milk", "x" * 256], keys=["first", "second"]
        )
    assert await titles_of(services, alice) == []


@pytest.mark.parametrize("key", [None, "form"])
async def test_a_session_that_is_over_makes_no_tasks(
    services: Services, empty_database: str, alice: SessionToken, key: str | None
) -> None:
    late = add_session(empty_database, alice.user_id, lasts="-1 second")
    with pytest.raises(NotAuthenticated):
        await create_tasks(services, late, "Buy milk\nCall Ada", key=key)
    assert await titles_of(services, alice) == []


async def test_the_tasks_of_a_form_are_one_statement_and_one_line_of_the_log(
    services: Services,
    empty_database: str,
    alice: SessionToken,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_tasks(empty_database, alice.user_id, 1)
    await create_tasks(services, alice, "Buy milk\nCall Ada\nWrite", key="form")
    assert statement_counts(services.metrics) == {"tasks.insert_several": 1}
    await create_tasks(services, alice, "Buy milk\nCall Ada\nWrite", key="form")
    [line] = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["event"], line["userId"], line["count"]) == ("tasks.created", alice.user_id, 3)
    assert (
        services.metrics.registry.get_sample_value(
            "taskapp_task_operations_total", {"operation": "created"}
        )
        == len(await titles_of(services, alice)) - 1
    )
