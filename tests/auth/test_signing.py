"""Only what we signed is accepted: unaltered, for its own purpose, with a key in use."""

import hashlib
import re
import string
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import itsdangerous
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskapp.auth.signing import PERSONAL_PREFIX, Signer

OLD, NEW = "the-old-key-of-32-characters-and-more", "the-new-key-of-32-characters-and-more"
SIGNER = Signer([NEW])
ALICE = "01890a5d-ac96-774b-bcce-b302099a8057"
ALPHABET = string.ascii_letters + string.digits + "-_"

Reader = Callable[[str], object]
READERS: dict[str, Reader] = {
    "cookie": SIGNER.read_session_cookie,
    "bearer": SIGNER.read_bearer_token,
    "personal": SIGNER.read_bearer_token,
    "cursor": SIGNER.read_cursor,
}
purposes = pytest.mark.parametrize("purpose", READERS)


def make(purpose: str, signer: Signer = SIGNER) -> str:
    if purpose == "cursor":
        return signer.sign_cursor(ALICE)
    makers = {
        "cookie": signer.new_session_cookie,
        "bearer": signer.new_bearer_token,
        "personal": signer.new_personal_token,
    }
    return makers[purpose](ALICE)[0]


def with_the_same_reader(purpose: str) -> set[str]:
    """Return the purposes that are read by the same method, as both kinds of tokens are."""
    return {"bearer", "personal"} if purpose in {"bearer", "personal"} else {purpose}


def encode(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def sign(purpose: str, value: bytes | str, key: str = NEW) -> str:
    """Sign any value, as only the holder of a key can."""
    signer = itsdangerous.Signer(
        key, salt=f"taskapp.{purpose}", key_derivation="hmac", digest_method=hashlib.sha256
    )
    text = signer.sign(value).decode("latin-1")
    return PERSONAL_PREFIX + text if purpose == "personal" else text


@given(user=st.uuids())
def test_a_session_is_found_by_what_was_signed(user: UUID) -> None:
    for new, read in (
        (SIGNER.new_session_cookie, SIGNER.read_session_cookie),
        (SIGNER.new_bearer_token, SIGNER.read_bearer_token),
        (SIGNER.new_personal_token, SIGNER.read_bearer_token),
    ):
        text, secret_hash = new(str(user))
        session = read(text)
        assert session
        assert (session.user_id, session.secret_hash) == (str(user), secret_hash)


@given(last=st.uuids())
def test_a_cursor_says_where_it_was_made(last: UUID) -> None:
    cursor = SIGNER.sign_cursor(str(last))
    assert SIGNER.read_cursor(cursor) == str(last)
    assert SIGNER.read_completion_cursor(cursor) is None
    for completed_at in ("2026-11-30T09:15:00.123456Z", "-infinity"):
        cursor = SIGNER.sign_completion_cursor(str(last), completed_at)
        assert SIGNER.read_completion_cursor(cursor) == (str(last), completed_at)
        assert SIGNER.read_cursor(cursor) is None
        assert SIGNER.read_completion_cursor(cursor[:-1]) is None


def test_every_session_has_a_secret_of_its_own_that_only_its_hash_names() -> None:
    made = [SIGNER.new_bearer_token(ALICE) for _ in range(100)]
    assert len({text for text, _ in made}) == len({secret_hash for _, secret_hash in made}) == 100
    for text, secret_hash in made:
        assert encode(secret_hash) not in text


def test_a_form_begins_one_session_whose_secret_nobody_can_compute_without_the_key() -> None:
    begun = {
        SIGNER.new_session_cookie(ALICE, "a form"),
        SIGNER.new_session_cookie(ALICE, "another form"),
        SIGNER.new_session_cookie(ALICE.replace("0", "1"), "a form"),
        Signer([OLD]).new_session_cookie(ALICE, "a form"),
        SIGNER.new_session_cookie(ALICE),
        SIGNER.new_session_cookie(ALICE),
    }
    assert len({secret_hash for _, secret_hash in begun}) == 6
    assert SIGNER.new_session_cookie(ALICE, "a form") in begun  # sent twice


def test_programs_that_search_for_leaked_secrets_know_a_personal_token_by_its_form() -> None:
    """The pattern is in docs/api.md; no other signed string matches it."""
    pattern = r"taskapp_[A-Za-z0-9_-]{48}\.[A-Za-z0-9_-]{43}"
    for purpose in READERS:
        assert bool(re.fullmatch(pattern, make(purpose))) == (purpose == "personal")
    assert pattern in (Path(__file__).parents[2] / "docs" / "api.md").read_text()


@purposes
def test_a_string_that_was_altered_anywhere_is_refused(purpose: str) -> None:
    text = make(purpose)
    read = READERS[purpose]
    for place, character in enumerate(text):
        for other in f"{ALPHABET}.=+/ \n!é\0":
            assert other == character or read(text[:place] + other + text[place + 1 :]) is None
            assert read(text[:place] + other + text[place:]) is None
        assert read(text[:place]) is None
        assert read(text[place + 1 :]) is None
    for more in f"{ALPHABET}.=+/ \n!é\0":
        assert read(text + more) is None
    assert read(text + "==") is None
    assert read(text.upper()) is None
    assert read(text + text) is None


@purposes
def test_a_string_serves_one_purpose_only(purpose: str) -> None:
    text = make(purpose)
    accepting = {name for name, read in READERS.items() if read(text) is not None}
    assert accepting == with_the_same_reader(purpose)


@purposes
def test_an_old_key_is_accepted_while_it_is_listed_and_the_newest_signs(purpose: str) -> None:
    def accepts(signer: Signer, text: str) -> bool:
        read = {"cookie": signer.read_session_cookie, "cursor": signer.read_cursor}.get(
            purpose, signer.read_bearer_token
        )
        return read(text) is not None

    before, between, after = Signer([OLD]), Signer([NEW, OLD]), Signer([NEW])
    old_text, text_between = make(purpose, before), make(purpose, between)
    assert [accepts(signer, old_text) for signer in (before, between, after)] == [True, True, False]
    assert [accepts(signer, text_between) for signer in (before, between, after)] == [
        False,
        True,
        True,
    ]


@given(text=st.text() | st.text(f"{ALPHABET}.=", min_size=40))
def test_no_text_is_accepted_or_breaks_anything(text: str) -> None:
    for read in READERS.values():
        assert read(text) is None


@given(
    value=st.binary().map(encode)
    | st.binary(min_size=16, max_size=36)
    | st.text(ALPHABET, max_size=60)
)
def test_what_has_not_our_length_is_refused_even_with_our_signature(value: bytes | str) -> None:
    lengths = {"cookie": 36, "bearer": 36, "personal": 36, "cursor": 16}
    for purpose, read in READERS.items():
        others = lengths.keys() - with_the_same_reader(purpose)
        assert all(read(sign(other, value)) is None for other in others)
        if read(sign(purpose, value)) is not None:
            assert isinstance(value, str)
            assert len(value) == -(-lengths[purpose] * 4 // 3)
