"""Input is kept as it was typed or rejected with a message beside its field; nothing crashes."""

import unicodedata
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.tables import DESCRIPTION_LENGTH, EMAIL_LENGTH, IDEMPOTENCY_KEY_LENGTH, TITLE_LENGTH
from taskapp.auth.passwords import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH
from taskapp.core.errors import BadRequest, Invalid
from taskapp.forms.accounts import (
    LOGIN,
    REGISTRATION,
    email_key,
    folded_email_key,
    read_email,
)
from taskapp.forms.fields import (
    NOT_A_STRING,
    NOT_STORABLE,
    REQUIRED,
    UNKNOWN_FIELD,
    FieldError,
    Form,
)
from taskapp.forms.parameters import (
    is_version,
    read_id,
    read_idempotency_key,
    read_limit,
    read_status_filter,
)
from taskapp.forms.tasks import NEW_TASK, READ_ONLY, STATUS_CHANGE, TASK_CHANGES

FORMS = (REGISTRATION, LOGIN, NEW_TASK, TASK_CHANGES, STATUS_CHANGE)
ASTRONAUT = "\U0001f469\u200d\U0001f680"  # one emoji of three characters
NEW_EMOJI = "\U0001fae9"  # of Unicode 16, which Python 3.11 does not know
HEBREW = "\u202b\u05e7\u05e0\u05d4 \u05d7\u05dc\u05d1\u202c"  # right to left, with its marks
EMAIL = "ada@example.com"


def errors(form: Form, **sent: Any) -> dict[str, str]:
    with pytest.raises(Invalid) as refusal:
        form.read(sent)
    return refusal.value.errors


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("x", "x"),
        ("  Buy milk\t\n", "Buy milk"),
        ("Buy\n milk", "Buy\n milk"),
        ("x" * TITLE_LENGTH, "x" * TITLE_LENGTH),
        (f"  {'x' * TITLE_LENGTH}  ", "x" * TITLE_LENGTH),
        (ASTRONAUT * 85, ASTRONAUT * 85),  # 255 characters
        (NEW_EMOJI, NEW_EMOJI),
        (HEBREW, HEBREW),
        ("e\u0301", "e\u0301"),  # not composed
        ("\u00e9", "\u00e9"),  # not taken apart
        ("Z\u0351\u036b\u0343a\u0329lgo", "Z\u0351\u036b\u0343a\u0329lgo"),
        ("\u200ba", "\u200ba"),
        ("\u3164a", "\u3164a"),
        ("\u2764\ufe0f", "\u2764\ufe0f"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("'; DROP TABLE tasks; --", "'; DROP TABLE tasks; --"),
        ("%s %(title)s {0} \\", "%s %(title)s {0} \\"),
        ("\x01\x1b[2J", "\x01\x1b[2J"),
    ],
)
def test_a_title_is_kept_as_typed_without_spaces_around_it(typed: str, kept: str) -> None:
    assert NEW_TASK.read({"title": typed}) == {"title": kept}
    assert TASK_CHANGES.read({"title": typed}) == {"title": kept}


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("", "Title is required"),
        ("   \t\n", "Title is required"),
        ("\u200b\u200d\ufeff", "Title is required"),  # joiners and spaces without width
        ("\u202e\u2066", "Title is required"),
        ("\u00a0\u3000\u2003", "Title is required"),
        ("\u3164\u115f\uffa0", "Title is required"),  # fillers of Hangul
        ("\u2800", "Title is required"),  # Braille without a dot
        ("\ufe0f\u034f", "Title is required"),  # selectors of a variation
        ("\x01\x1b", "Title is required"),
        ("x" * (TITLE_LENGTH + 1), "Must be at most 255 characters (currently 256)"),
        (ASTRONAUT * 85 + "x", "currently 256"),
        ("a\0b", NOT_STORABLE),
        ("a\ud800", NOT_STORABLE),
        ("\udfffa", NOT_STORABLE),
        (None, NOT_A_STRING),
        (7, NOT_A_STRING),
        (1.5, NOT_A_STRING),
        (True, NOT_A_STRING),
        (["x"], NOT_A_STRING),
        ({"x": "y"}, NOT_A_STRING),
        (b"x", NOT_A_STRING),
    ],
)
def test_a_title_that_cannot_be_kept_is_refused(typed: Any, message: str) -> None:
    assert message in errors(NEW_TASK, title=typed)["title"]
    assert message in errors(TASK_CHANGES, title=typed)["title"]


@pytest.mark.parametrize("typed", ["", " ", "  as typed \n\n", "x" * DESCRIPTION_LENGTH, HEBREW])
def test_a_description_is_kept_to_the_letter(typed: str) -> None:
    assert TASK_CHANGES.read({"description": typed}) == {"description": typed}


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("x" * (DESCRIPTION_LENGTH + 1), "at most 10,000 characters"),
        ("a\0", NOT_STORABLE),
        ("\ud83d", NOT_STORABLE),
        (None, NOT_A_STRING),
        (0, NOT_A_STRING),
    ],
)
def test_a_description_that_cannot_be_kept_is_refused(typed: Any, message: str) -> None:
    assert message in errors(TASK_CHANGES, description=typed)["description"]


def test_a_status_is_one_of_two_words() -> None:
    for status in ("pending", "completed"):
        assert STATUS_CHANGE.read({"status": status}) == {"status": status}
    wrong: Any
    for wrong in ("", "done", "Pending", "pending ", None, True, 1, [], {}, ["pending"]):
        assert errors(STATUS_CHANGE, status=wrong) == {
            "status": "Must be one of: pending, completed"
        }


@pytest.mark.parametrize(
    ("typed", "shown", "key"),
    [
        ("ada@example.com", "ada@example.com", "ada@example.com"),
        ("  Ada@EXAMPLE.Com\n", "Ada@EXAMPLE.Com", "ada@example.com"),
        ("a.d-a+tasks@sub.example.co.uk", None, None),
        ("\u00c9mile@example.com", None, "\u00e9mile@example.com"),
        ("E\u0301mile@example.com", "\u00c9mile@example.com", "\u00e9mile@example.com"),
        ("\u0130da@example.com", None, "i\u0307da@example.com"),
        ("\u0131da@example.com", None, None),  # dotless
        ("STRASSE@example.com", None, "strasse@example.com"),
        ("stra\u00dfe@example.com", None, None),
        ("STRA\u1e9eE@example.com", None, "stra\u00dfe@example.com"),
        ("\u03a3\u03ac\u03c2@example.com", None, "\u03c3\u03ac\u03c2@example.com"),
        ("\u039f\u0394\u039f\u03a3@example.com", None, "\u03bf\u03b4\u03bf\u03c2@example.com"),
        ("ada@B\u00dcCHER.example.com", None, "ada@b\u00fccher.example.com"),
        ("Ada@Stra\u00dfe.Example.com", None, "ada@stra\u00dfe.example.com"),
        ("ada@xn--bcher-kva.example.com", "ada@b\u00fccher.example.com", None),
        ("ada@\uff45xample.com", "ada@example.com", None),
        ("\U0001f600@example.com", None, None),
        ("ada@home.local", None, None),  # nothing is sent there
        ("ada@example.test", None, None),
        (f"{'a' * 60}@{'b' * 63}.{'c' * 63}.{'d' * 60}.org", None, None),
    ],
)
def test_an_email_address_is_shown_as_typed_and_has_one_key(
    typed: str, shown: str | None, key: str | None
) -> None:
    read = REGISTRATION.read({"email": typed, "password": "12345678"})["email"]
    assert read == (shown or typed)
    assert email_key(read) == (key or read)
    assert LOGIN.read({"email": typed, "password": "x"})["email"] == read == read_email(read)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("", REQUIRED),
        (" \n", REQUIRED),
        (None, NOT_A_STRING),
        (["ada@example.com"], NOT_A_STRING),
        ("ada\0@example.com", NOT_STORABLE),
        ("ada\ud800@example.com", NOT_STORABLE),
        *(
            (junk, "such as name@example.com")
            for junk in (
                "ada",
                "@example.com",
                "ada@",
                "ada@example",
                "ada@@example.com",
                "ada@example..com",
                ".ada@example.com",
                "ada.@example.com",
                "ada@-example.com",
                "ada@example.com.",
                "a da@example.com",
                "ada@exam ple.com",
                "Ada <ada@example.com>",
                "<ada@example.com>",
                "ada@example.com, bob@example.com",
                '"a da"@example.com',
                "ada@[127.0.0.1]",
                "ada@localhost",
                "ada@example.com\r\nBcc: bob@example.com",
                "\u202eada@example.com",
                "a\u200bda@example.com",
                "ada\uff20example.com",
                f"ada@{'b' * 64}.com",
                f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 63}.org",
            )
        ),
    ],
)
def test_what_is_no_email_address_is_refused(typed: Any, message: str) -> None:
    assert message in errors(REGISTRATION, email=typed, password="12345678")["email"]
    assert message in errors(LOGIN, email=typed, password="x")["email"]


local_parts = st.from_regex(r"[a-z0-9]([a-z0-9.+_-]{0,20}[a-z0-9])?", fullmatch=True).filter(
    lambda part: ".." not in part
)


@given(local=local_parts, cased=st.data())
def test_the_case_of_an_email_address_does_not_matter(local: str, cased: st.DataObject) -> None:
    email = f"{local}@example.com"
    ups = cased.draw(st.lists(st.booleans(), min_size=len(email), max_size=len(email)))
    mixed = "".join(sign.upper() if up else sign for sign, up in zip(email, ups, strict=True))
    assert read_email(mixed) == mixed
    assert email_key(mixed) == email_key(email) == email


# Letters that some folding or normal form turns into others, and some that are of one case only.
LETTERS = (
    "sS\u00df\u1e9e\u017fiI\u0131\u0130\u0307\u03c3\u03c2\u03a3kK\u212a\u00e5\u212b"
    "\ufb01\u0149\u13a0\uab70\u01c5"
)
local_texts = st.text(min_size=1) | st.text(LETTERS, min_size=1, max_size=8)


@given(
    local=st.text(min_size=1) | st.text(LETTERS, min_size=1, max_size=8), domain=st.text(LETTERS)
)
def test_an_email_address_is_read_to_an_end(local: str, domain: str) -> None:
    for text in (f"{local}@example.com", f"a{local}@x.org", f"a@{domain}.org", f"{local}@{domain}"):
        try:
            shown = read_email(text)
        except FieldError:
            continue
        key = email_key(shown)
        assert read_email(shown) == shown
        assert email_key(read_email(key)) == email_key(key) == key
        for each in (shown, key):
            assert unicodedata.is_normalized("NFC", each)
            assert 3 <= len(each) <= EMAIL_LENGTH
        assert read_email(unicodedata.normalize("NFD", text)) == shown
        # What earlier versions stored: the key of a key, so that it is found by either.
        assert folded_email_key(key) == folded_email_key(shown)


@pytest.mark.parametrize(
    "password",
    [
        "12345678",
        "x" * 256,
        "\U0001f600" * 256,
        "  spaces \t around  ",
        "control\x01\x1b\x7f",
        "\u00e9" * 8,
        "\ufb01" * 8,
        "\u200b" * 8,
    ],
)
def test_a_new_password_is_kept_as_typed(password: str) -> None:
    assert REGISTRATION.read({"email": EMAIL, "password": password})["password"] == password


def test_a_new_password_is_composed_before_its_characters_are_counted() -> None:
    sent = {"email": EMAIL, "password": "e\u0301" * 8}
    assert REGISTRATION.read(sent)["password"] == "\u00e9" * 8


@pytest.mark.parametrize(
    ("password", "message"),
    [
        ("", "at least 8 characters"),
        ("1234567", "at least 8 characters"),
        ("\U0001f600" * 7, "at least 8 characters"),
        ("e\u0301" * 7, "at least 8 characters"),
        ("x" * 257, "at most 256 characters"),
        ("1234567\0", NOT_STORABLE),
        ("1234567\ud800", NOT_STORABLE),
        (12345678, NOT_A_STRING),
        (None, NOT_A_STRING),
    ],
)
def test_a_new_password_that_cannot_be_one_is_refused(password: Any, message: str) -> None:
    assert message in errors(REGISTRATION, email=EMAIL, password=password)["password"]


def test_a_password_to_compare_may_be_of_any_length_but_none() -> None:
    for password in ("x", "x" * 1000, " "):
        assert LOGIN.read({"email": EMAIL, "password": password})["password"] == password
    assert errors(LOGIN, email=EMAIL, password="") == {"password": REQUIRED}


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert errors(REGISTRATION, email="ada", name="Ada", age=3) == {
        "email": "Must be a valid email address, such as name@example.com",
        "password": REQUIRED,
        "name": UNKNOWN_FIELD,
        "age": UNKNOWN_FIELD,
    }
    assert errors(NEW_TASK) == {"title": REQUIRED}


def test_what_a_task_cannot_be_given_is_ignored_and_the_rest_is_named() -> None:
    answered = dict.fromkeys(READ_ONLY, "whatever")
    assert TASK_CHANGES.read(answered) == {}
    assert NEW_TASK.read(answered | {"title": "x"}) == {"title": "x"}
    for unknown in ("user_id", "userId", "Title", "completed", "", "\0", "__proto__"):
        assert errors(TASK_CHANGES, **answered, **{unknown: 1}) == {unknown: UNKNOWN_FIELD}
    assert errors(TASK_CHANGES, **{"a\ud800": 1}) == {"a?": UNKNOWN_FIELD}
    assert errors(LOGIN, email=EMAIL, password="x", id="x") == {"id": UNKNOWN_FIELD}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["pending", EMAIL, "x" * 255, "x" * 256, "y" * 10_001, "a\0", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["email", "password", "title", "description", "status", *READ_ONLY])
forms = st.sampled_from(FORMS)


@given(form=forms, sent=st.dictionaries(names | st.text(st.characters()), json_values))
def test_no_json_breaks_a_form_and_what_was_read_reads_the_same(
    form: Form, sent: dict[str, Any]
) -> None:
    try:
        read = form.read(sent)
    except Invalid as refusal:
        said = refusal.errors
    else:
        said = {"nothing": "wrong"}
        assert form.read(read) == read
        assert all(isinstance(value, str) for value in read.values())
    assert said
    assert "".join((*said, *said.values())).encode()  # it can be answered


lengths = st.sampled_from(
    [1, 2, MIN_PASSWORD_LENGTH, TITLE_LENGTH, MAX_PASSWORD_LENGTH, DESCRIPTION_LENGTH]
)
texts = st.builds(
    lambda length, more, sign: sign * (length + more),
    lengths,
    st.integers(-1, 1),
    st.sampled_from(["x", "\u00e9", "\U0001f600", "\u05d0"]),
)


@given(form=forms, sent=st.dictionaries(names.filter(lambda name: name != "email"), texts))
def test_the_schema_accepts_what_the_form_accepts(form: Form, sent: dict[str, str]) -> None:
    if "email" in form.required:
        sent["email"] = EMAIL
    assert jsonschema_rs.is_valid(form.schema(), sent) == _accepts(form, sent)


@pytest.mark.parametrize("around", ["", " ", "\t\f\n", "\u00a0\x85\x1f", "\u2028" * 255, "\u200b"])
@pytest.mark.parametrize("between", ["", " ", "\u200b", "\0"])
@pytest.mark.parametrize("length", [1, 2, TITLE_LENGTH, TITLE_LENGTH + 1])
def test_the_schema_counts_a_title_as_the_form_does(around: str, between: str, length: int) -> None:
    title = around + "x" * (length - len(between)) + between + "x" * len(between) + around
    assert jsonschema_rs.is_valid(NEW_TASK.schema(), {"title": title}) == _accepts(
        NEW_TASK, {"title": title}
    )


def _accepts(form: Form, sent: dict[str, str]) -> bool:
    try:
        form.read(sent)
    except Invalid:
        return False
    return True


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_the_schema_names_the_fields_of_the_form(form: Form) -> None:
    schema = form.schema()
    jsonschema_rs.validator_for(schema)  # it is a schema
    assert set(schema.get("required", ())) == set(form.required)
    assert set(schema["properties"]) == {*form.required, *form.optional, *form.ignored}
    assert not jsonschema_rs.is_valid(schema, {"unknown": 1})


def reads(read: Callable[[str | None], object], text: str | None) -> object:
    try:
        return read(text)
    except (Invalid, BadRequest):
        return "refused"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ("01890A5D-AC96-774B-BCCE-B302099A8057", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ("01890a5dac96774bbcceb302099a8057", None),
        ("{01890a5d-ac96-774b-bcce-b302099a8057}", None),
        ("01890a5d-ac96-774b-bcce-b302099a8057\n", None),
        ("01890a5d-ac96-774b-bcce-b302099a805", None),
        ("\u06f01890a5d-ac96-774b-bcce-b302099a8057", None),
        ("1", None),
        ("", None),
        ("' OR 1=1 --", None),
    ],
)
def test_an_id_is_a_uuid_in_its_usual_form(text: str, expected: str | None) -> None:
    assert read_id(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, 50),
        ("1", 1),
        ("100", 100),
        *((text, "refused") for text in ("0", "101", "-1", "", "1.0", "1e1", " 1", "\u0661")),
        ("9" * 5000, "refused"),
    ],
)
def test_a_page_has_one_to_a_hundred_rows(text: str | None, expected: object) -> None:
    assert reads(read_limit, text) == expected


def test_a_list_is_filtered_by_a_status_there_is() -> None:
    assert [reads(read_status_filter, text) for text in (None, "pending", "completed")] == [
        None,
        "pending",
        "completed",
    ]
    assert {reads(read_status_filter, text) for text in ("", "all", "PENDING", "\0")} == {"refused"}


def test_an_idempotency_key_is_visible_ascii() -> None:
    longest = "k" * IDEMPOTENCY_KEY_LENGTH
    for key in (None, "k", "01890a5d-ac96", longest, "!~", '"quoted"'):
        assert reads(read_idempotency_key, key) == key
    for key in ("", "a b", longest + "k", "k\n", "\u00e9", "\0", "k\x7f"):
        assert reads(read_idempotency_key, key) == "refused"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-02-02T10:00:00Z", True),
        ("2026-02-02T10:00:00.5Z", True),
        ("2026-02-02T10:00:00.123456Z", True),
        ("2026-02-30T10:00:00Z", False),
        ("2026-13-01T10:00:00Z", False),
        ("2026-02-02T25:00:00Z", False),
        ("2026-02-02T10:00:60Z", False),
        ("0000-02-02T10:00:00Z", False),
        ("2026-02-02T10:00:00.1234567Z", False),
        ("2026-02-02T10:00:00+00:00", False),
        ("2026-02-02 10:00:00Z", False),
        ("now", False),
        ("infinity", False),
        ("", False),
    ],
)
def test_a_version_is_a_timestamp_that_exists(text: str, expected: bool) -> None:
    assert is_version(text) is expected
