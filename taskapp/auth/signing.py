"""Signed strings: sessions in cookies and tokens, personal tokens, proofs in forms, cursors."""

import hashlib
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import itsdangerous
from uuid_utils import UUID

SECRET_LENGTH = 20  # bytes: 160 random bits, where ASVS 7.2.3 asks for 128
UUID_LENGTH = 16  # bytes
CACHE_SIZE = 4096  # signed strings
MAX_SIGNED_LENGTH = 128  # characters; ours have 92
PERSONAL_PREFIX = "taskapp_"  # by which programs that search for leaked secrets know a token
NONCE_LENGTH = 16  # bytes


@dataclass(frozen=True)
class SessionToken:
    """What a signed string says: a user's id, and the hash by which the session is found.

    The signature proves that we gave this session to this user; only the database knows
    whether the session is still alive.
    """

    user_id: str
    secret_hash: bytes


def _encode(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Signer:
    """Makes and reads signed strings.

    Each purpose has a salt of its own, so that a cookie is no bearer token and a cursor is
    neither. The first key signs; all are accepted, which is what makes rotation possible.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        """Take the keys, newest first."""
        self._cookie = self._signer(keys, "taskapp.cookie")
        self._bearer = self._signer(keys, "taskapp.bearer")
        self._personal = self._signer(keys, "taskapp.personal")
        # A pure function that costs a twentieth of a request; only the database knows the rest.
        self._remember_session = lru_cache(CACHE_SIZE)(_read_session)
        self._cursor = self._signer(keys, "taskapp.cursor")
        self._form = self._signer(keys, "taskapp.form")
        # Another whenever the cursor of a page is another though its tasks are the same.
        self.cursor_mark = self.sign_cursor(str(UUID(int=0)))

    @staticmethod
    def _signer(keys: Sequence[str], salt: str) -> itsdangerous.Signer:
        deriving = itsdangerous.Signer(
            keys, salt=salt, key_derivation="hmac", digest_method=hashlib.sha256
        )
        return itsdangerous.Signer(
            # Derived once, not for each signature; itsdangerous wants the newest last.
            [deriving.derive_key(key) for key in reversed(keys)],
            key_derivation="none",
            digest_method=hashlib.sha256,
        )

    def new_cookie(self, user_id: str) -> tuple[str, bytes]:
        """Make the cookie of a new session: the string for the browser, the hash for us."""
        return self._new_session(self._cookie, user_id)

    def new_bearer(self, user_id: str) -> tuple[str, bytes]:
        """Make the bearer token of a new session: the string for the script, the hash for us."""
        return self._new_session(self._bearer, user_id)

    def new_personal(self, user_id: str) -> tuple[str, bytes]:
        """Make a personal token: the string for the script, the hash for us."""
        text, secret_hash = self._new_session(self._personal, user_id)
        return PERSONAL_PREFIX + text, secret_hash

    def read_cookie(self, text: str) -> SessionToken | None:
        """Read a session cookie; None when we did not sign it."""
        return self._read_session(self._cookie, text)

    def read_bearer(self, text: str) -> SessionToken | None:
        """Read a bearer token, personal or of a login; None when we did not sign it."""
        if text.startswith(PERSONAL_PREFIX):
            return self._read_session(self._personal, text.removeprefix(PERSONAL_PREFIX))
        return self._read_session(self._bearer, text)

    def new_csrf_token(self, browser: str, session: SessionToken | None) -> str:
        """Make the proof that a form comes from a page shown to this browser in this session.

        It is another text each time, so that the length of a compressed page tells nothing.
        """
        nonce = _encode(secrets.token_bytes(NONCE_LENGTH))
        signature = self._form.get_signature(_form_text(nonce, browser, session))
        return f"{nonce}.{signature.decode('ascii')}"

    def is_csrf_token(self, text: str, browser: str, session: SessionToken | None) -> bool:
        """Tell whether we made this proof for this browser and this session."""
        nonce, _, signature = text.partition(".")
        return self._form.verify_signature(_form_text(nonce, browser, session), signature)

    def sign_cursor(self, last_id: str) -> str:
        """Make the cursor that continues a list behind the row with this id."""
        return self._cursor.sign(_encode(UUID(last_id).bytes)).decode("ascii")

    def read_cursor(self, text: str) -> str | None:
        """Read a cursor; None when we did not sign it."""
        value = _unsign(self._cursor, text, UUID_LENGTH)
        return None if value is None else str(UUID(bytes=value))

    def _read_session(self, signer: itsdangerous.Signer, text: str) -> SessionToken | None:
        return self._remember_session(signer, text) if len(text) <= MAX_SIGNED_LENGTH else None

    def _new_session(self, signer: itsdangerous.Signer, user_id: str) -> tuple[str, bytes]:
        secret = secrets.token_bytes(SECRET_LENGTH)
        text = signer.sign(_encode(secret + UUID(user_id).bytes)).decode("ascii")
        return text, hashlib.sha256(secret).digest()


def _read_session(signer: itsdangerous.Signer, text: str) -> SessionToken | None:
    value = _unsign(signer, text, SECRET_LENGTH + UUID_LENGTH)
    if value is None:
        return None
    secret, user_id = value[:SECRET_LENGTH], value[SECRET_LENGTH:]
    return SessionToken(str(UUID(bytes=user_id)), hashlib.sha256(secret).digest())


def _form_text(nonce: str, browser: str, session: SessionToken | None) -> bytes:
    secret_hash = session.secret_hash.hex() if session else ""
    return f"{nonce}.{browser}.{secret_hash}".encode("utf-8", "replace")


def _unsign(signer: itsdangerous.Signer, text: str, length: int) -> bytes | None:
    try:
        signed = signer.unsign(text.encode("ascii")).decode("ascii")
        signature = text[len(signed) + 1 :]
        # Base64 has several spellings of the same bytes, and ours is the only one accepted: what
        # was altered in any letter is refused.
        if _encode(_decode(signature)) != signature:
            return None
        value = _decode(signed)
    except (itsdangerous.BadSignature, ValueError):
        return None
    return value if len(value) == length else None
