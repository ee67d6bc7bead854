"""The languages of the pages: their sentences, numbers, dates and times.

The code has the sentences in English; `templates/languages/` has their translations.
"""

import io
from bisect import bisect
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from gettext import GNUTranslations, NullTranslations

from handlers.rendering.negotiation import negotiate_language
from taskapp.config.installation import HOME
from taskapp.core.messages import Message, fill

CATALOGUES = HOME / "templates" / "languages"
_HOUR, _DAY = 60, 1440  # minutes
_STEPS = (1, _HOUR, _DAY, 7 * _DAY, 30 * _DAY, 365 * _DAY)  # minutes, as Babel counts them
_JUST_NOW = Message("just now")


@dataclass(frozen=True)
class Language:
    """A language: its tag (RFC 5646), and the locale in which Babel formats numbers and dates."""

    code: str
    locale: str

    @property
    def translations(self) -> NullTranslations:
        """Return the catalogue for gettext."""
        return _read_catalogue(self.code)

    def translate(self, sentence: str) -> str:
        """Return a message in this language, or any other text unchanged."""
        if not isinstance(sentence, Message):
            return sentence
        if sentence.plural is None:
            template = self.translations.gettext(sentence.template)
        else:
            number = int(sentence.values["number"])
            template = self.translations.ngettext(sentence.template, sentence.plural, number)
        return fill(template, sentence.values, self.number)

    def number(self, number: int) -> str:
        """Return a number with this language's separators."""
        return _number(number, self.locale)

    def format_datetime(self, text: str) -> str:
        """Return an RFC 3339 timestamp to the minute, in UTC."""
        return f"{_day(text[:10], self.locale)}, {text[11:16]} UTC"

    def time_ago(self, text: str, now: datetime | None = None) -> str:
        """Return how long ago an RFC 3339 timestamp was, rounded down."""
        passed = (now or datetime.now(UTC)) - datetime.fromisoformat(text)
        minutes = passed.days * _DAY or passed.seconds // 60  # exact to a day once a day has passed
        return _ago(minutes, self.locale) if minutes > 0 else self.translate(_JUST_NOW)

    def duration(self, seconds: int) -> str:
        """Return a duration rounded up: below 100 in seconds or minutes, else in hours."""
        if seconds < 100:
            return _unit(seconds, "second", self.locale)
        minutes = -(-seconds // 60)
        if minutes < 100:
            return _unit(minutes, "minute", self.locale)
        return _unit(-(-minutes // _HOUR), "hour", self.locale)


ENGLISH = Language("en", "en_GB")
LANGUAGES = {language.code: language for language in (ENGLISH, Language("de", "de_DE"))}


def choose_language(accept_language: str) -> Language:
    """Return the language of ours that a browser prefers by its `Accept-Language` header."""
    return LANGUAGES[negotiate_language(accept_language, LANGUAGES, ENGLISH.code)]


# Babel takes 130 ms to import, so it is imported where it is first needed, not at startup.


@cache
def _read_catalogue(code: str) -> NullTranslations:
    """Read a catalogue from its source; gettext itself reads only compiled catalogues."""
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
