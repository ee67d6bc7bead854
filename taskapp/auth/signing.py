"""Signed strings: cookies, tokens, CSRF tokens, devices, cursors, and what undoes a change."""

import hashlib
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from time import time
from typing import Any

import itsdangerous
from uuid_utils import UUID, uuid7

SECRET_LENGTH = 20  # bytes: 160 random bits; ASVS 7.2.3 requires 128
UUID_LENGTH = 16  # bytes
CACHE_SIZE = 4096  # verified strings
MAX_SIGNED_LENGTH = 128  # characters; ours have 92
PERSONAL_PREFIX = "taskapp_"  # lets secret scanners recognize a leaked token
NONCE_LENGTH = 16  # bytes
ACCOUNT_MARK_LENGTH = 16  # characters of Base64: 96 bits
UNDO_MAX_AGE = 24 * 60 * 60  # seconds
NEW_EMAIL_MAX_AGE = 60  # seconds
INSTANCE_MARK_LENGTH = 8  # hexadecimal digits


# From a user's id, and the key of a form or nothing, to a signed string and its secret hash.
SessionFactory = Callable[[str, str], tuple[str, bytes]]


@dataclass(frozen=True)
class SessionToken:
    """The content of a verified cookie or bearer token: a user's id and the session's secret hash.

    The signature proves that we issued the session to this user; only the database knows whether
    the session is still live.
    """

    user_id: str
    secret_hash: bytes


def _encode(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Signer:
    """Creates and verifies signed strings.

    Every purpose has a salt of its own, so a cookie is not accepted as a bearer token or a cursor.
    The first key signs and all keys verify, which makes key rotation possible.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        """Derive the keys of every purpose; `keys` has the newest first."""
        self._cookie = self._signer(keys, "taskapp.cookie")
        self._bearer = self._signer(keys, "taskapp.bearer")
        self._personal = self._signer(keys, "taskapp.personal")
        # Tells instances on one host apart; one for each key, the newest first.
        self.instance_marks = tuple(
            self._signer([key], "taskapp.instance").derive_key().hex()[:INSTANCE_MARK_LENGTH]
            for key in keys
        )
        # Verifying takes 5 % of a short request, and its result never changes.
        self._verify_session = lru_cache(CACHE_SIZE)(_verify_session)
        self._cursor = self._signer(keys, "taskapp.cursor")
        # Clients ask for the same page again and again.
        self.sign_cursor = lru_cache(CACHE_SIZE)(self._sign_cursor)
        self._completion_cursor = self._signer(keys, "taskapp.completion_cursor")
        self._csrf = self._signer(keys, "taskapp.form")
        self._form = self._signer(keys, "taskapp.session_of_form")
        self._account = self._signer(keys, "taskapp.account")
        self.account_mark = lru_cache(CACHE_SIZE)(self._account_mark)
        self._device = self._signer(keys, "taskapp.device")
        self._undo = self._serializer(keys, "taskapp.undo")
        self._new_email = self._serializer(keys, "taskapp.new_email")
        # Changes when the signing key changes, so list ETags change together with the cursors.
        self.cursor_fingerprint = self.sign_cursor(str(UUID(int=0)))

    @staticmethod
    def _signer(keys: Sequence[str], salt: str) -> itsdangerous.Signer:
        deriving = itsdangerous.Signer(
            keys, salt=salt, key_derivation="hmac", digest_method=hashlib.sha256
        )
        return itsdangerous.Signer(
            # Derived once rather than for every signature; itsdangerous signs with the last key.
            [deriving.derive_key(key) for key in reversed(keys)],
            key_derivation="none",
            digest_method=hashlib.sha256,
        )

    @staticmethod
    def _serializer(keys: Sequence[str], salt: str) -> itsdangerous.URLSafeTimedSerializer:
        return itsdangerous.URLSafeTimedSerializer(
            list(reversed(keys)),
            salt=salt,
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )

    def new_session_cookie(self, user_id: str, form_key: str = "") -> tuple[str, bytes]:
        """Return the cookie of a new session, and its secret hash for the database.

        With the key of a form, the secret is derived from it: the form begins the same session
        however often it is sent.
        """
        return self._new_session(self._cookie, user_id, form_key)

    def new_bearer_token(self, user_id: str, form_key: str = "") -> tuple[str, bytes]:
        """Return the bearer token of a new session, as `new_session_cookie`."""
        return self._new_session(self._bearer, user_id, form_key)

    def new_personal_token(self, user_id: str, form_key: str = "") -> tuple[str, bytes]:
        """Return a personal token, as `new_session_cookie`."""
        text, secret_hash = self._new_session(self._personal, user_id, form_key)
        return PERSONAL_PREFIX + text, secret_hash

    def read_session_cookie(self, text: str) -> SessionToken | None:
        """Return the content of a session cookie, or None if we did not sign it."""
        return self._read_session(self._cookie, text)

    def read_bearer_token(self, text: str) -> SessionToken | None:
        """Return the content of a bearer or personal token, or None if we did not sign it."""
        if text.startswith(PERSONAL_PREFIX):
            return self._read_session(self._personal, text.removeprefix(PERSONAL_PREFIX))
        return self._read_session(self._bearer, text)

    def new_csrf_token(self, browser: str, session: SessionToken | None) -> str:
        """Return a token for the forms of a page, valid for this browser and session only.

        A nonce makes every token different, so the length of compressed pages reveals nothing about
        it (BREACH). After it comes the mark of the account, if there is a session.
        """
        nonce = _encode(secrets.token_bytes(NONCE_LENGTH))
        if session:
            nonce += self.account_mark(session.user_id)
        signature = self._csrf.get_signature(_csrf_message(nonce, browser, session))
        return f"{nonce}.{signature.decode('ascii')}"

    def is_valid_csrf_token(self, text: str, browser: str, session: SessionToken | None) -> bool:
        """Return whether we signed this token for this browser and session."""
        nonce, _, signature = text.partition(".")
        return self._csrf.verify_signature(_csrf_message(nonce, browser, session), signature)

    @staticmethod
    def read_csrf_account(text: str) -> str:
        """Return the mark of the account that a CSRF token was issued to, which may be invalid."""
        return text.partition(".")[0][len(_encode(bytes(NONCE_LENGTH))) :]

    def _account_mark(self, user_id: str) -> str:
        """Return what names an account to its own browser: nobody else can compute it."""
        return self._account.get_signature(user_id.encode("ascii"))[:ACCOUNT_MARK_LENGTH].decode()

    def sign_account(self, user_id: str) -> str:
        """Return the id of an account in a string that only we can make."""
        return self._account.sign(_encode(UUID(user_id).bytes)).decode("ascii")

    def read_account(self, text: str) -> str | None:
        """Return the id of an account, or None if we did not sign it."""
        value = _unsign(self._account, text, UUID_LENGTH)
        return None if value is None else str(UUID(bytes=value))

    def new_user_id(self, form_key: str) -> str:
        """Return a UUID of version 7, whose last eight bytes are derived from a form, if any."""
        new = uuid7().bytes
        return str(UUID(bytes=new[:8] + self._id_end(form_key)) if form_key else UUID(bytes=new))

    def is_user_id_of(self, form_key: str, user_id: str) -> bool:
        """Return whether the account was created by a form."""
        return bool(form_key) and UUID(user_id).bytes[8:] == self._id_end(form_key)

    def _id_end(self, form_key: str) -> bytes:
        digest = _decode(self._form.get_signature(f"{form_key} id".encode()).decode("ascii"))
        return bytes([0x80 | digest[0] & 0x3F]) + digest[1:8]  # the variant (RFC 9562, 4.1)

    def new_device(self, user_id: str, password_hash: str) -> str:
        """Return a string that says that the user has logged in on a device, with this password."""
        identity = _encode(uuid7().bytes)
        signature = self._device.get_signature(_device_message(identity, user_id, password_hash))
        return f"{identity}.{signature.decode('ascii')}"

    def is_device(self, text: str, user_id: str, password_hash: str, *, max_age: timedelta) -> bool:
        """Return whether we issued this string for a user, not too long ago, with this password."""
        identity, _, signature = text.partition(".")
        message = _device_message(identity, user_id, password_hash)
        if not self._device.verify_signature(message, signature):
            return False
        issued = UUID(bytes=_decode(identity)).timestamp / 1000  # of a UUID of version 7, in ms
        return time() - issued < max_age.total_seconds()

    def _sign_cursor(self, last_id: str) -> str:
        """Return the cursor that continues a list after the row with this id."""
        return self._cursor.sign(_encode(UUID(last_id).bytes)).decode("ascii")

    def read_cursor(self, text: str) -> str | None:
        """Return the id in a cursor, or None if we did not sign it."""
        value = _unsign(self._cursor, text, UUID_LENGTH)
        return None if value is None else str(UUID(bytes=value))

    def sign_completion_cursor(self, last_id: str, completed_at: str) -> str:
        """Return the cursor that continues a list by completion after a task and its time."""
        value = UUID(last_id).bytes + completed_at.encode("ascii")
        return self._completion_cursor.sign(_encode(value)).decode("ascii")

    def read_completion_cursor(self, text: str) -> tuple[str, str] | None:
        """Return the id and the time in a cursor by completion, or None if we did not sign it."""
        value = _unsign(self._completion_cursor, text)
        if value is None:
            return None
        return str(UUID(bytes=value[:UUID_LENGTH])), value[UUID_LENGTH:].decode("ascii")

    def sign_undo(self, user_id: str, content: Any) -> str:
        """Return what a user needs to undo a change, as compressed JSON, signed for UNDO_MAX_AGE.

        Anybody can read it; only the user can use it.
        """
        return str(self._undo.dumps([user_id, content]))

    def read_undo(self, user_id: str, text: str) -> Any:
        """Return what was signed for this user, or None if we did not, or too long ago."""
        try:
            signed_for, content = self._undo.loads(text, max_age=UNDO_MAX_AGE)
        except itsdangerous.BadData:
            return None
        return content if signed_for == user_id else None

    def sign_new_email(self, email: str) -> str:
        """Return the email address of a new account, signed for NEW_EMAIL_MAX_AGE."""
        return str(self._new_email.dumps(email))

    def read_new_email(self, text: str) -> str | None:
        """Return the email address that was signed, or None if we did not, or too long ago."""
        try:
            return str(self._new_email.loads(text, max_age=NEW_EMAIL_MAX_AGE))
        except itsdangerous.BadData:
            return None

    def _read_session(self, signer: itsdangerous.Signer, text: str) -> SessionToken | None:
        return self._verify_session(signer, text) if len(text) <= MAX_SIGNED_LENGTH else None

    def _new_session(
        self, signer: itsdangerous.Signer, user_id: str, form_key: str
    ) -> tuple[str, bytes]:
        secret = secrets.token_bytes(SECRET_LENGTH)
        if form_key:
            digest = self._form.get_signature(f"{form_key} {user_id}".encode())
            secret = _decode(digest.decode("ascii"))[:SECRET_LENGTH]
        text = signer.sign(_encode(secret + UUID(user_id).bytes)).decode("ascii")
        return text, hashlib.sha256(secret).digest()


def _verify_session(signer: itsdangerous.Signer, text: str) -> SessionToken | None:
    value = _unsign(signer, text, SECRET_LENGTH + UUID_LENGTH)
    if value is None:
        return None
    secret, user_id = value[:SECRET_LENGTH], value[SECRET_LENGTH:]
    return SessionToken(str(UUID(bytes=user_id)), hashlib.sha256(secret).digest())


def _csrf_message(nonce: str, browser: str, session: SessionToken | None) -> bytes:
    secret_hash = session.secret_hash.hex() if session else ""
    return f"{nonce}.{browser}.{secret_hash}".encode("utf-8", "replace")


def _device_message(identity: str, user_id: str, password_hash: str) -> bytes:
    return f"{identity}.{user_id}.{password_hash}".encode("utf-8", "replace")


def _unsign(signer: itsdangerous.Signer, text: str, length: int | None = None) -> bytes | None:
    try:
        signed = signer.unsign(text.encode("ascii")).decode("ascii")
        signature = text[len(signed) + 1 :]
        # Base64 has several spellings of the same bytes. Only the canonical one is accepted, so a
        # change of any character invalidates the string.
        if _encode(_decode(signature)) != signature:
            return None
        value = _decode(signed)
    except (itsdangerous.BadSignature, ValueError):
        return None
    return value if length in {None, len(value)} else None
