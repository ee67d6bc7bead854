"""Every sentence has a translation; numbers and times have the form of each language."""

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

from handlers.rendering.languages import CATALOGUES, ENGLISH, LANGUAGES, Language
from taskapp.core.messages import Message, counted

CHECKOUT = Path(__file__).parents[2]
GERMAN = LANGUAGES["de"]
TRANSLATED = sorted(set(LANGUAGES) - {ENGLISH.code})
PLACEHOLDER = re.compile(r"%\((\w+)\)s")
Sentences = list[tuple[str, str]]  # in English, and the translation


def read_catalogue(code: str) -> Catalog:
    with (CATALOGUES / f"{code}.po").open("rb") as text:
        return read_po(text, locale=code)


def sentences_of(catalogue: Catalog) -> Sentences:
    """Return every sentence with its translation, each plural form by itself."""
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
    """Return whether two sentences have the same placeholders and the same end."""
    values = [set(PLACEHOLDER.findall(text)) for text in (sentence, translation)]
    ends = [text[-1:] if text.endswith((".", "?", ":")) else "" for text in (sentence, translation)]
    return values[0] == values[1] and ends[0] == ends[1] and translation == translation.strip()


@pytest.mark.parametrize("code", TRANSLATED)
def test_a_translation_has_the_values_and_the_end_of_its_sentence(code: str) -> None:
    sentences = sentences_of(read_catalogue(code))
    assert [pair for pair in sentences if not looks_alike(*pair)] == []


@pytest.mark.parametrize("code", TRANSLATED)
def test_no_sentence_has_characters_of_html(code: str) -> None:
    # Jinja does not escape the result of _(), not even in an attribute.
    texts = [text for pair in sentences_of(read_catalogue(code)) for text in pair]
    assert [text for text in texts if set(text) & set('<>&"')] == []


def test_german_has_german_punctuation() -> None:
    texts = [translation for _, translation in sentences_of(read_catalogue("de"))]
    assert [text for text in texts if re.search(r"'|\.\.\.| - |\b(Sie haben|Ihr)\b", text)] == []
    assert [text for text in texts if text.count("„") != text.count("“")] == []


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
        (2, "2 seconds", "2 Sekunden"),
        (99, "99 seconds", "99 Sekunden"),
        (100, "2 minutes", "2 Minuten"),
        (841, "15 minutes", "15 Minuten"),
        (3600, "60 minutes", "60 Minuten"),
        (86_400, "24 hours", "24 Stunden"),
        (3_600_001, "1,001 hours", "1.001 Stunden"),
    ],
)
def test_a_duration_is_rounded_up(seconds: int, english: str, german: str) -> None:
    assert ENGLISH.duration(seconds) == english
    assert GERMAN.duration(seconds) == german


def test_a_timestamp_is_a_day_and_a_minute_in_utc() -> None:
    for timestamp in ("2026-03-05T07:08:59.123456Z", "2026-03-05T07:08:00+00:00"):
        assert ENGLISH.format_datetime(timestamp) == "5 March 2026, 07:08 UTC"
        assert GERMAN.format_datetime(timestamp) == "5. März 2026, 07:08 UTC"


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
def test_a_time_ago_is_rounded_down(seconds: int, english: str, german: str) -> None:
    assert ago(ENGLISH, seconds) == english
    assert ago(GERMAN, seconds) == german


@given(st.floats(-(10.0**9), 10.0**9))
def test_a_time_in_the_future_is_now(seconds: float) -> None:
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
    message = Message("%(name)s must be valid UTF-8.", name=value)
    assert ENGLISH.translate(message) == message == f"{value} must be valid UTF-8."
    assert GERMAN.translate(message) == f"„{value}“ muss gültiges UTF-8 sein."


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=str)
@given(st.text() | st.sampled_from(["Task added.", "100 %", "%(name)s", "%s %d"]))
def test_a_text_that_is_no_message_stays_as_it_is(language: Language, text: str) -> None:
    assert language.translate(text) == text


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=str)
def test_a_sentence_that_no_catalogue_has_stays_english(language: Language) -> None:
    assert language.translate(Message("%(number)s %% of it", number=7)) == "7 % of it"
