"""A browser gets the language and the coding it prefers; malformed headers are ignored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.rendering.languages import ENGLISH, LANGUAGES, choose_language
from handlers.rendering.negotiation import negotiate_encoding, parse_weights

CODINGS = ["br", "gzip", "identity"]

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
        # equal weights
        ("de,en", "de"),
        ("en,de", "en"),
        ("de;q=0.5,en;q=0.5,fr", "de"),
        ("fr;q=0.5,de;q=0.5,en;q=0.5", "de"),
        # excluded
        ("de;q=0", "en"),
        ("de;q=0.000", "en"),
        ("de-AT;q=0", "en"),
        ("de;q=0,de-AT", "en"),
        ("en;q=0,de;q=0.1", "de"),
        ("en;q=0,de;q=0", "en"),
        ("en-GB;q=0,en-US", "en"),
        # wildcards
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
        # malformed
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
def test_a_browser_gets_the_language_it_prefers_of_ours(header: str, code: str) -> None:
    assert choose_language(header).code == code


TAGS = ["de", "en", "DE-at", "en-GB", "*", "fr", "x", "", "d e"]
WEIGHTS = ["", ";q=1", ";q=0", ";q=0.5", ";q=0.9", " ; Q=0.500", ";q=5", ";q", ";"]
ITEMS = st.builds("{}{}".format, st.sampled_from(TAGS), st.sampled_from(WEIGHTS))
HEADERS = st.lists(ITEMS, max_size=6)
FOREIGN = st.builds("{}{}".format, st.sampled_from(["fr", "nds-NL", "?"]), st.sampled_from(WEIGHTS))


@given(st.text() | HEADERS.map(",".join) | st.lists(ITEMS | st.text(), max_size=300).map(",".join))
def test_any_header_gets_a_language_of_ours(header: str) -> None:
    assert choose_language(header) in LANGUAGES.values()


@given(HEADERS, FOREIGN, st.integers(0, 6))
def test_a_language_that_is_not_ours_changes_nothing(
    items: list[str], foreign: str, index: int
) -> None:
    asked = [*items[:index], foreign, *items[index:]]
    assert choose_language(",".join(asked)) == choose_language(",".join(items))


@given(HEADERS, st.integers(0, 6))
def test_german_is_never_sent_to_a_browser_that_excludes_it(items: list[str], index: int) -> None:
    assert choose_language(",".join([*items[:index], "de;q=0", *items[index:]])) == ENGLISH


@given(HEADERS)
def test_neither_case_nor_spaces_matter(items: list[str]) -> None:
    assert choose_language(" ,\t ".join(items).upper()) == choose_language(",".join(items))


# Which coding a client gets


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("", "identity"),
        ("br", "br"),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "br"),
        ("gzip,br", "br"),
        ("GZIP ; Q=0.8", "gzip"),
        ("*", "br"),
        ("*;q=0.5, gzip", "gzip"),
        ("br;q=0, *", "gzip"),
        ("br;q=0.5, gzip;q=1.0", "gzip"),
        ("br;q=0.001", "br"),
        ("br;q=0.5, gzip;q=0.5, identity", "identity"),
        ("br;q=0", "identity"),
        ("*;q=0", "identity"),
        ("identity;q=0", "identity"),
        ("identity;q=0, gzip", "gzip"),
        ("gzip;q=0.5, *;q=0", "gzip"),
        ("deflate, zstd", "identity"),
        ("br;q=2, gzip;q=nonsense, ;q=1, ,,=", "identity"),
        ("br gzip", "identity"),
        ("," * 10_000 + " " * 10_000 + "x", "identity"),
    ],
)
def test_a_client_gets_the_coding_it_prefers(accepted: str, coding: str) -> None:
    assert negotiate_encoding(accepted, CODINGS) == coding


def test_a_coding_that_is_not_offered_is_not_chosen() -> None:
    assert negotiate_encoding("br, gzip;q=0.1", ["gzip", "identity"]) == "gzip"
    assert negotiate_encoding("br, gzip, *", ["identity"]) == "identity"


# The weights


@pytest.mark.parametrize(
    ("header", "weights"),
    [
        ("", []),
        ("gzip", [("gzip", 1)]),
        ("GZIP;Q=0.5", [("gzip", 0.5)]),
        ("\tbr ; q=0.001 ,*;q=1.000", [("br", 0.001), ("*", 1)]),
        ("br;q=1.001,gzip;q=0.1234,de;q=.5,en;q=,fr;q=-1", []),
        ("br;q=0.5;q=1,a b,=,;q=1,,", []),
    ],
)
def test_a_value_has_the_weight_of_rfc_9110_or_is_left_out(
    header: str, weights: list[tuple[str, float]]
) -> None:
    assert parse_weights(header) == weights


def test_a_header_longer_than_any_browser_sends_counts_as_absent() -> None:
    for spaces, (language, coding) in [(996, ("de", "br")), (997, ("en", "identity"))]:
        assert choose_language("de, " + " " * spaces).code == language
        assert negotiate_encoding("br, " + " " * spaces, CODINGS) == coding
