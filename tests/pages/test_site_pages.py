"""How pages word what takes time."""

import pytest

from handlers.rendering.languages import ENGLISH


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "1 second"),
        (2, "2 seconds"),
        (99, "99 seconds"),
        (100, "2 minutes"),
        (841, "15 minutes"),
        (3600, "60 minutes"),
        (86400, "24 hours"),
    ],
)
def test_a_duration_is_worded_for_people_and_never_too_short(seconds: int, words: str) -> None:
    assert ENGLISH.duration(seconds) == words
