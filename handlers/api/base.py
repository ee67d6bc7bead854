"""The base of API handlers: bearer tokens, JSON bodies, rate limits, problem+json."""

import json
import re
from typing import Any, ClassVar

import msgspec

from handlers.web.application import MAX_FORM_FIELDS
from handlers.web.base import BaseHandler
from handlers.web.entity_tags import read_entity_tags
from handlers.web.problem import make_problem
from taskapp.auth.rate_limits import SessionLimit
from taskapp.auth.signing import SessionToken
from taskapp.core.errors import (
    BadRequest,
    BodyTooLarge,
    EncodedBody,
    Invalid,
    NotFound,
    RateLimitStatus,
    TaskappError,
    TooManyRequests,
    UnsupportedMediaType,
)
from taskapp.core.messages import Message
from taskapp.forms.parameters import is_version
from taskapp.operations.tasks import TaskSlice
from taskapp.queries.tasks import Task

MAX_JSON_PARTS = 8  # arrays and objects; every body that a form accepts has one
# A string of JSON; the last one may lack its end. It never goes back, however hostile the text.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_encode = msgspec.json.Encoder().encode
_EXPOSED = "ETag, Link, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-ID"


class ApiHandler(BaseHandler):
    """A request of the JSON API.

    Differences from pages:

    * the session is a bearer token, or a cookie together with a CSRF token;
    * every response is JSON, every error problem+json (RFC 9457);
    * the limit of a user's requests is another one, and `RateLimit` has what is left of it.
    """

    content_type = "application/json"
    challenge: ClassVar[str] = 'Bearer realm="taskapp"'  # WWW-Authenticate of a 401
    _rate_limit: RateLimitStatus | None = None

    def set_default_headers(self) -> None:
        """Allow the origins of the settings to read the response (CORS)."""
        super().set_default_headers()
        if not self.services.settings.cors_origins:
            return
        self.set_header("Vary", "Origin")
        if origin := self._allowed_origin():
            self.set_header("Access-Control-Allow-Origin", origin)
            self.set_header("Access-Control-Expose-Headers", _EXPOSED)
            self.resource_policy = "cross-origin"

    @property
    def limit(self) -> SessionLimit:
        """Return the limit of the requests of a user to the API."""
        return self.services.limits.api

    def note_limit(self, status: RateLimitStatus) -> None:
        """Keep what remains of the limit for the headers RateLimit."""
        self._rate_limit = status

    def header_lines(self) -> str:
        """Return the lines with those of RateLimit (draft-ietf-httpapi-ratelimit-headers)."""
        lines = super().header_lines()
        if (limit := self._rate_limit) is None:
            return lines
        return (
            f"{lines}"
            f'Ratelimit-Policy: "{limit.name}";q={limit.amount};w={limit.window}\r\n'
            f'Ratelimit: "{limit.name}";r={limit.remaining};t={limit.reset}\r\n'
        )

    def options(self, *_: str) -> None:
        """List the methods of the route, also in a CORS preflight."""
        super().options()
        if self._allowed_origin():
            self.set_header("Access-Control-Allow-Methods", ", ".join(self.allowed_methods()))
            self.set_header(
                "Access-Control-Allow-Headers",
                "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, "
                "X-Request-ID",
            )
            self.set_header("Access-Control-Max-Age", "600")

    def _allowed_origin(self) -> str | None:
        """Return the origin of the page that sends the request, or None if it may not read it."""
        origin = self.request.headers.get("Origin")
        return origin if origin in self.services.settings.cors_origins else None

    def authenticate(self) -> SessionToken | None:
        """Return the session of the bearer token (RFC 6750), or of a cookie with a CSRF token."""
        scheme, _, token = self.header("Authorization").partition(" ")
        if scheme.lower() == "bearer":
            return self._count_rejected(self.services.signer.read_bearer_token(token.strip()))
        csrf_token = self.request.headers.get("X-CSRF-Token")
        if csrf_token is None or self.is_cross_site():
            return None
        session = self.read_cookie_session()
        return session if self.is_valid_csrf_token(csrf_token, session) else None

    def read_json(self) -> dict[str, Any]:
        """Return the body: a JSON object in UTF-8, in which no name is repeated.

        Raises:
            UnsupportedMediaType: the Content-Type is not application/json, or the body is encoded.
            BadRequest: the body is no such object.
        """
        media_type = self.header("Content-Type").partition(";")[0].strip()
        if media_type.lower() != "application/json":
            raise UnsupportedMediaType
        if self.has_encoded_body:
            raise EncodedBody
        if _has_many_parts(self.request.body):
            raise BadRequest(Message("The body has too many arrays and objects."))
        try:
            # A byte order mark may be ignored (RFC 8259, 8.1); PowerShell and Excel send one.
            value = _decode(self.request.body.decode("utf-8-sig"))
        except ValueError as error:
            raise BadRequest(Message("The body must be valid JSON in UTF-8.")) from error
        if not isinstance(value, dict):
            raise BadRequest(Message("The body must be a JSON object."))
        return value

    def write_json(self, value: object, status: int = 200) -> None:
        """Write a value as JSON, and finish the response."""
        self.set_status(status)
        self.finish(_encode(value))

    def write_task(self, task: Task, status: int = 200) -> None:
        """Write a task with its version as ETag, or 304 if the client has this version."""
        self._write_unless_known(task.updated_at, task, status)

    def write_task_list(self, version: str, page: TaskSlice | None) -> None:
        """Write a list with its version, or 304; `page` may be None if the client has it."""
        value = page and {"tasks": page.tasks, "nextCursor": page.next_cursor}
        self._write_unless_known(version, value)

    def _write_unless_known(self, version: str, value: object, status: int = 200) -> None:
        self.set_header("Etag", f'"{version}"')
        if self.is_safe() and self.is_known(version):
            self.set_status(304)
            self.finish()
        else:
            self.write_json(value, status)

    def read_known_versions(self) -> list[str]:
        """Return the versions in `If-None-Match` (RFC 9110, 13.1.2); an empty list for `*`."""
        return read_entity_tags(self.header("If-None-Match"))

    def read_versions(self) -> list[str] | None:
        """Return the versions in `If-Match` (RFC 9110, 13.1.1), or None if any version matches."""
        header = self.header("If-Match")
        if not header or header.strip() == "*":
            return None
        return [version for version in read_entity_tags(header) if is_version(version)]

    def render_error(self, error: TaskappError) -> None:
        """Write the error as a problem (RFC 9457)."""
        problem = make_problem(error, self._request_id)
        if isinstance(error, Invalid):
            problem["errors"] = [
                {"field": field, "message": str(message)} for field, message in error.errors.items()
            ]
        if error.status == 401:
            self.set_header("WWW-Authenticate", self.challenge)
        self.set_header("Content-Type", "application/problem+json")
        self.finish(_encode(problem))

    def set_retry_after(self, error: TaskappError | None) -> None:
        """Set Retry-After, and with 429 the headers of the limit that is used up."""
        super().set_retry_after(error)
        if isinstance(error, TooManyRequests):
            self.note_limit(error.rate_limit)


class NotFoundApi(ApiHandler):
    """Every path below /api/ that has no route."""

    is_public = True

    async def prepare(self) -> None:
        """Raise for every method."""
        self.check_host()
        raise NotFound


class TrailingSlashApi(ApiHandler):
    """Every path of the API with a slash at its end."""

    is_public = True

    async def prepare(self) -> None:
        """Raise for every method."""
        self.check_host()
        if not self.shown_path:
            raise NotFound
        path = self.shown_path.removesuffix("/")
        raise NotFound(Message("The address is %(path)s, without a slash at the end.", path=path))


class PayloadTooLargeApi(ApiHandler):
    """A request whose body is too large."""

    is_public = True

    async def prepare(self) -> None:
        """Raise for every method."""
        self.check_host()
        raise BodyTooLarge


ApiHandler.too_large = PayloadTooLargeApi


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_FORM_FIELDS:
        raise BadRequest(
            Message("A JSON object can have at most %(limit)s names.", limit=MAX_FORM_FIELDS)
        )
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name came twice")
    return value


def _has_many_parts(body: bytes) -> bool:
    """Return whether JSON has more arrays and objects than any form accepts.

    Decoding each of them takes longer than finding it here.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_JSON_PARTS:
        return False
    bare = _STRING.sub(b"", body)  # brackets in a text are none
    return bare.count(b"[") + bare.count(b"{") > MAX_JSON_PARTS


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant).decode
