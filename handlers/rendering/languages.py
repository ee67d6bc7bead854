"""The languages of the pages: their words, numbers and dates, and which one a browser asks for.

The words stand in English where they are used; `templates/languages/` has them in the others.
"""

import io
import re
from bisect import bisect
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from gettext import GNUTranslations, NullTranslations

from taskapp.config.installation import HOME
from taskapp.core.messages import Message, fill

CATALOGUES = HOME / "templates" / "languages"
_MAX_HEADER_LENGTH = 1000  # characters of Accept-Language; browsers send fewer
_RANGE = re.compile(
    r"\s*(?P<tag>\*|[a-z]{1,8}(?:-[a-z0-9]{1,8})*)\s*"
    r"(?:;\s*q=(?P<weight>0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*)?",
    re.ASCII | re.IGNORECASE,
)
_HOUR, _DAY = 60, 1440  # minutes
_STEPS = (1, _HOUR, _DAY, 7 * _DAY, 30 * _DAY, 365 * _DAY)  # minutes, as Babel counts them
_JUST_NOW = Message("just now")


@dataclass(frozen=True)
class Language:
    """One language: `code` is its tag (RFC 5646), `locale` where its dates and numbers are from."""

    code: str
    locale: str

    @property
    def translations(self) -> NullTranslations:
        """Give the catalogue, which gettext reads."""
        return _read_catalogue(self.code)

    def translate(self, sentence: str) -> str:
        """Translate a message; any other text stays as it is."""
        if not isinstance(sentence, Message):
            return sentence
        if sentence.plural is None:
            template = self.translations.gettext(sentence.template)
        else:
            number = int(sentence.values["number"])
            template = self.translations.ngettext(sentence.template, sentence.plural, number)
        return fill(template, sentence.values, self.number)

    def number(self, number: int) -> str:
        """Write a number."""
        return _number(number, self.locale)

    def format_datetime(self, text: str) -> str:
        """Write a moment of RFC 3339 to the minute, in UTC."""
        return f"{_day(text[:10], self.locale)}, {text[11:16]} UTC"

    def time_ago(self, text: str, now: datetime | None = None) -> str:
        """Write how long ago, from now if not told, a moment of RFC 3339 was, never longer."""
        passed = (now or datetime.now(UTC)) - datetime.fromisoformat(text)
        minutes = passed.days * _DAY or passed.seconds // 60  # after a day, days will do
        return _ago(minutes, self.locale) if minutes > 0 else self.translate(_JUST_NOW)

    def duration(self, seconds: int) -> str:
        """Write for people how long something takes, never too short."""
        if seconds < 100:
            return _unit(seconds, "second", self.locale)
        minutes = -(-seconds // 60)
        if minutes < 100:
            return _unit(minutes, "minute", self.locale)
        return _unit(-(-minutes // _HOUR), "hour", self.locale)


ENGLISH = Language("en", "en_GB")
LANGUAGES = {language.code: language for language in (ENGLISH, Language("de", "de_DE"))}


def choose_language(accept_language: str) -> Language:
    """Choose the language that a browser likes best of ours (RFC 9110, 12.5.4).

    A region is served in its language (RFC 4647, 3.4); `*` means every language that is not named;
    what is not of the header's form is left out.
    """
    return _choose(accept_language) if len(accept_language) <= _MAX_HEADER_LENGTH else ENGLISH


@lru_cache(maxsize=100)
def _choose(accept_language: str) -> Language:
    items = [match for item in accept_language.split(",") if (match := _RANGE.fullmatch(item))]
    weights = [(item["tag"].lower(), float(item["weight"] or 1)) for item in items]
    named = {_language_of(tag) for tag, _ in weights}
    refused = {tag for tag, weight in weights if weight == 0}
    for tag, _ in sorted(weights, key=lambda wish: -wish[1]):
        for code, language in LANGUAGES.items():
            is_meant = code not in named if tag == "*" else code == _language_of(tag)
            if is_meant and not {tag, code} & refused:
                return language
    return ENGLISH


def _language_of(tag: str) -> str:
    """Give a tag's language without its region."""
    return tag.partition("-")[0]


# Babel is imported where it is first needed, for the process has to start without delay.


@cache
def _read_catalogue(code: str) -> NullTranslations:
    """Read a catalogue as translators write it; gettext itself reads only the compiled form."""
    if code == ENGLISH.code:
        return NullTranslations()
    from babel.messages.mofile import write_mo  # noqa: PLC0415  # see above
    from babel.messages.pofile import read_po  # noqa: PLC0415  # see above

    with (CATALOGUES / f"{code}.po").open("rb") as text:
        catalogue = read_po(text, locale=code)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return GNUTranslations(compiled)


@lru_cache(maxsize=1000)
def _number(number: int, locale: str) -> str:
    from babel.numbers import format_decimal  # noqa: PLC0415  # see above

    return format_decimal(number, locale=locale)


@lru_cache(maxsize=1000)
def _day(text: str, locale: str) -> str:
    from babel.dates import format_date  # noqa: PLC0415  # see above

    return format_date(date.fromisoformat(text), "long", locale=locale)


@lru_cache(maxsize=5000)
def _ago(minutes: int, locale: str) -> str:
    step = _STEPS[bisect(_STEPS, minutes) - 1]
    return _steps_ago(minutes // step * step, locale)


@lru_cache(maxsize=1000)
def _steps_ago(minutes: int, locale: str) -> str:
    from babel.dates import format_timedelta  # noqa: PLC0415  # see above

    past = timedelta(minutes=-minutes)
    return format_timedelta(past, threshold=1, add_direction=True, locale=locale)


@lru_cache(maxsize=1000)
def _unit(number: int, unit: str, locale: str) -> str:
    from babel.units import format_unit  # noqa: PLC0415  # see above

    return format_unit(number, f"duration-{unit}", locale=locale)
