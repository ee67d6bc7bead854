"""Every sentence is there in every language, and a browser gets the language it likes best."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from babel.messages import Catalog
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st

from handlers.rendering.languages import CATALOGUES, ENGLISH, LANGUAGES, Language, choose_language
from taskapp.core.messages import Message, counted

CHECKOUT = Path(__file__).parents[2]
GERMAN = LANGUAGES["de"]
TRANSLATED = sorted(set(LANGUAGES) - {ENGLISH.code})
PLACEHOLDER = re.compile(r"%\((\w+)\)s")
Sentences = list[tuple[str, str]]  # each in English, and how it is translated


def read_catalogue(code: str) -> Catalog:
    with (CATALOGUES / f"{code}.po").open("rb") as text:
        return read_po(text, locale=code)


def sentences_of(catalogue: Catalog) -> Sentences:
    """Give every sentence with its translation, each plural form by itself."""
    found: Sentences = []
    for message in catalogue:
        sentences, translations = forms_of(message.id), forms_of(message.string)
        if message.id:
            last = [sentences[-1]] * len(translations)
            found += zip([*sentences, *last], translations, strict=False)
    return found


def forms_of(text: str | Sequence[str] | None) -> Sequence[str]:
    return [text] if isinstance(text, str) else text or []


# The catalogues


def test_the_catalogues_hold_every_sentence_of_the_sources_and_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "languages"
    shutil.copytree(CATALOGUES, folder)
    pybabel = Path(sys.executable).with_name("pybabel")
    subprocess.run(["sh", "deploy/messages.sh", pybabel, folder], cwd=CHECKOUT, check=True)
    made = {path.name: path.read_text() for path in folder.iterdir()}
    kept = {path.name: path.read_text() for path in CATALOGUES.iterdir()}
    assert made == kept, "`make messages` brings the catalogues up to date"
    assert set(kept) == {"taskapp.pot", *(f"{code}.po" for code in TRANSLATED)}


@pytest.mark.parametrize("code", TRANSLATED)
def test_every_sentence_is_translated(code: str) -> None:
    catalogue = read_catalogue(code)
    assert [message.id for message in catalogue if message.id and message.fuzzy] == []
    assert [sentence for sentence, translation in sentences_of(catalogue) if not translation] == []
    assert [(message.id, errors) for message, errors in catalogue.check()] == []
    assert not catalogue.obsolete


def looks_alike(sentence: str, translation: str) -> bool:
    """Tell whether two sentences have the same values in them, and the same end."""
    values = [set(PLACEHOLDER.findall(text)) for text in (sentence, translation)]
    ends = [text[-1:] if text.endswith((".", "?", ":")) else "" for text in (sentence, translation)]
    return values[0] == values[1] and ends[0] == ends[1] and translation == translation.strip()


@pytest.mark.parametrize("code", TRANSLATED)
def test_a_translation_has_the_values_and_the_end_of_its_sentence(code: str) -> None:
    sentences = sentences_of(read_catalogue(code))
    assert [pair for pair in sentences if not looks_alike(*pair)] == []


@pytest.mark.parametrize("code", TRANSLATED)
def test_no_sentence_holds_what_html_would_read(code: str) -> None:
    # Jinja puts the text of _() into the page as it is, also between the quotes of an attribute.
    texts = [text for pair in sentences_of(read_catalogue(code)) for text in pair]
    assert [text for text in texts if set(text) & set('<>&"')] == []


def test_german_is_set_as_germans_do() -> None:
    texts = [translation for _, translation in sentences_of(read_catalogue("de"))]
    assert [text for text in texts if re.search(r"'|\.\.\.| - |\b(Sie haben|Ihr)\b", text)] == []
    assert [text for text in texts if text.count("„") != text.count("“")] == []


# Which language a browser gets


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "en"),
        ("de", "de"),
        ("DE", "de"),
        ("de-AT", "de"),
        ("de-DE-1996", "de"),
        ("en-US,en;q=0.9,de;q=0.8", "en"),
        ("de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7", "de"),
        ("en;q=0.3, de;q=0.5", "de"),
        ("\tde ; q=0.5 ,en\t;q=0.4", "de"),
        ("en;Q=0.4,de;Q=0.5", "de"),
        ("en;q=0.500,de;q=0.501", "de"),
        ("fr,nds,de;q=0.1", "de"),
        ("fr", "en"),
        ("deu", "en"),
        ("den", "en"),
        # equals
        ("de,en", "de"),
        ("en,de", "en"),
        ("de;q=0.5,en;q=0.5,fr", "de"),
        ("fr;q=0.5,de;q=0.5,en;q=0.5", "de"),
        # refused
        ("de;q=0", "en"),
        ("de;q=0.000", "en"),
        ("de-AT;q=0", "en"),
        ("de;q=0,de-AT", "en"),
        ("en;q=0,de;q=0.1", "de"),
        ("en;q=0,de;q=0", "en"),
        ("en-GB;q=0,en-US", "en"),
        # any
        ("*", "en"),
        ("*,de", "en"),
        ("de,*", "de"),
        ("*;q=0.1,de;q=0.5", "de"),
        ("de;q=0.1,*;q=0.5", "en"),
        ("en;q=0.1,*;q=0.5", "de"),
        ("en;q=0,*", "de"),
        ("de;q=0,*", "en"),
        ("*;q=0,de;q=0.1", "de"),
        ("*;q=0", "en"),
        # not of the header's form
        (",,de,,", "de"),
        ("de;q=2,en;q=0.1", "en"),
        ("de;q=nan", "en"),
        ("de;q=inf,en;q=0.1", "en"),
        ("de;q=-1", "en"),
        ("de;q=1e-1", "en"),
        ("de;q=0.1234", "en"),
        ("de;q=", "en"),
        ("de;level=1", "en"),
        ("de_DE", "en"),
        ("*-DE", "en"),
        ("d\u00e9", "en"),
        ("de\0", "en"),
        ("../de", "en"),
        ("de," * 22_000, "en"),
        ("d" * 65_536, "en"),
        ("de;q=0." + "1" * 65_536, "en"),
        ("de" + "-a" * 32_768, "en"),
    ],
    ids=lambda text: text[:40] or "nothing",
)
def test_a_browser_gets_what_it_likes_best_of_ours(header: str, code: str) -> None:
    assert choose_language(header).code == code


TAGS = ["de", "en", "DE-at", "en-GB", "*", "fr", "x", "", "d e"]
WEIGHTS = ["", ";q=1", ";q=0", ";q=0.5", ";q=0.9", " ; Q=0.500", ";q=5", ";q", ";"]
ITEMS = st.builds("{}{}".format, st.sampled_from(TAGS), st.sampled_from(WEIGHTS))
HEADERS = st.lists(ITEMS, max_size=6)
FOREIGN = st.builds("{}{}".format, st.sampled_from(["fr", "nds-NL", "?"]), st.sampled_from(WEIGHTS))


@given(st.text() | HEADERS.map(",".join) | st.lists(ITEMS | st.text(), max_size=300).map(",".join))
def test_whatever_a_browser_sends_it_gets_one_of_ours(header: str) -> None:
    assert choose_language(header) in LANGUAGES.values()


@given(HEADERS, FOREIGN, st.integers(0, 6))
def test_a_language_that_is_not_ours_changes_nothing(
    items: list[str], foreign: str, place: int
) -> None:
    asked = [*items[:place], foreign, *items[place:]]
    assert choose_language(",".join(asked)) == choose_language(",".join(items))


@given(HEADERS, st.integers(0, 6))
def test_german_is_never_given_to_those_who_refuse_it(items: list[str], place: int) -> None:
    assert choose_language(",".join([*items[:place], "de;q=0", *items[place:]])) == ENGLISH


@given(HEADERS)
def test_neither_case_nor_spaces_matter(items: list[str]) -> None:
    assert choose_language(" ,\t ".join(items).upper()) == choose_language(",".join(items))


# Numbers and times


@pytest.mark.parametrize(
    ("number", "english", "german"),
    [(0, "0", "0"), (999, "999", "999"), (1000, "1,000", "1.000"), (10**6, *["1,000,000"] * 2)],
)
def test_numbers(number: int, english: str, german: str) -> None:
    assert ENGLISH.number(number) == english
    assert GERMAN.number(number) == german.replace(",", ".")


@pytest.mark.parametrize(
    ("seconds", "english", "german"),
    [
        (1, "1 second", "1 Sekunde"),
        (99, "99 seconds", "99 Sekunden"),
        (100, "2 minutes", "2 Minuten"),
        (841, "15 minutes", "15 Minuten"),
        (3600, "60 minutes", "60 Minuten"),
        (86_400, "24 hours", "24 Stunden"),
        (3_600_001, "1,001 hours", "1.001 Stunden"),
    ],
)
def test_a_duration_is_never_too_short(seconds: int, english: str, german: str) -> None:
    assert ENGLISH.duration(seconds) == english
    assert GERMAN.duration(seconds) == german


def test_a_moment_is_a_day_and_a_minute_in_utc() -> None:
    for moment in ("2026-03-05T07:08:59.123456Z", "2026-03-05T07:08:00+00:00"):
        assert ENGLISH.format_datetime(moment) == "5 March 2026, 07:08 UTC"
        assert GERMAN.format_datetime(moment) == "5. März 2026, 07:08 UTC"


def ago(language: Language, seconds: float) -> str:
    return language.time_ago((datetime.now(UTC) - timedelta(seconds=seconds)).isoformat())


@pytest.mark.parametrize(
    ("seconds", "english", "german"),
    [
        (-3600, "just now", "gerade eben"),
        (0, "just now", "gerade eben"),
        (50, "just now", "gerade eben"),
        (60, "1 minute ago", "vor 1 Minute"),
        (110, "1 minute ago", "vor 1 Minute"),
        (3590, "59 minutes ago", "vor 59 Minuten"),
        (3600, "1 hour ago", "vor 1 Stunde"),
        (86_390, "23 hours ago", "vor 23 Stunden"),
        (2 * 86_400 - 10, "1 day ago", "vor 1 Tag"),
        (2 * 86_400, "2 days ago", "vor 2 Tagen"),
        (13 * 86_400, "1 week ago", "vor 1 Woche"),
        (45 * 86_400, "1 month ago", "vor 1 Monat"),
        (364 * 86_400, "12 months ago", "vor 12 Monaten"),
        (365 * 86_400, "1 year ago", "vor 1 Jahr"),
        (4000 * 86_400, "10 years ago", "vor 10 Jahren"),
    ],
)
def test_what_was_is_never_longer_ago_than_it_is(seconds: int, english: str, german: str) -> None:
    assert ago(ENGLISH, seconds) == english
    assert ago(GERMAN, seconds) == german


@given(st.floats(-(10.0**9), 10.0**9))
def test_nothing_was_done_in_the_future(seconds: float) -> None:
    assert ago(GERMAN, seconds).startswith("vor ") == (seconds >= 60)
    assert (ago(GERMAN, seconds) == "gerade eben") == (seconds < 60)


# Sentences


@pytest.mark.parametrize(
    ("number", "english", "german"),
    [
        (0, "0 tasks added.", "0 Aufgaben hinzugefügt."),
        (1, "1 task added.", "1 Aufgabe hinzugefügt."),
        (2, "2 tasks added.", "2 Aufgaben hinzugefügt."),
        (1234, "1,234 tasks added.", "1.234 Aufgaben hinzugefügt."),
    ],
)
def test_a_counted_sentence_has_the_form_of_its_number(
    number: int, english: str, german: str
) -> None:
    message = counted("%(number)s task added.", "%(number)s tasks added.", number=number)
    assert ENGLISH.translate(message) == message == english
    assert GERMAN.translate(message) == german


@given(st.text())
def test_a_value_stays_as_it_is(value: str) -> None:
    message = Message("%(name)s is not UTF-8.", name=value)
    assert ENGLISH.translate(message) == message == f"{value} is not UTF-8."
    assert GERMAN.translate(message) == f"„{value}“ ist kein gültiges UTF-8."


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=str)
@given(st.text() | st.sampled_from(["Task added.", "100 %", "%(name)s", "%s %d"]))
def test_a_text_that_is_no_message_stays_as_it_is(language: Language, text: str) -> None:
    assert language.translate(text) == text


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=str)
def test_a_sentence_that_no_catalogue_has_stays_english(language: Language) -> None:
    assert language.translate(Message("%(number)s %% of it", number=7)) == "7 % of it"
