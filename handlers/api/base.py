"""What the JSON API has in common: bearer tokens, JSON bodies, limits and problem+json."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from handlers.web.base import BaseHandler
from handlers.web.problem import make_problem
from taskapp.auth.signing import SessionToken
from taskapp.core.errors import (
    BadRequest,
    BodyTooLarge,
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

JSON_DEPTH = 8  # objects and lists within each other; those that mean something are flat
_encode = msgspec.json.Encoder().encode
_EXPOSED = "ETag, Link, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-ID"


class ApiHandler(BaseHandler):
    """A request of the JSON API.

    Differences from pages:

    * the session comes as a bearer token, or as a cookie with the token that pages carry;
    * every answer is JSON, every error problem+json (RFC 9457);
    * a session's requests are counted, and what is left stands in `RateLimit`.
    """

    content_type = "application/json"
    _rate_limit_headers: Mapping[str, str] = MappingProxyType({})

    def set_default_headers(self) -> None:
        """Set who may read the answer from another site."""
        super().set_default_headers()
        if not self.services.settings.cors_origins:
            return
        self.set_header("Vary", "Origin")
        if origin := self._allowed_origin():
            self.set_header("Access-Control-Allow-Origin", origin)
            self.set_header("Access-Control-Expose-Headers", _EXPOSED)
            self.set_header("Cross-Origin-Resource-Policy", "cross-origin")

    async def prepare(self) -> None:
        """Count the request against the user's limit."""
        await super().prepare()
        if self.session_token is None or self.is_public:
            return
        self._set_rate_limit_headers(await self.services.limits.api.hit(self.session_token.user_id))

    def options(self, *_: str) -> None:
        """Say which methods this address takes, to a browser that asks for another site too."""
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
        """Return the origin of the page that sends the request, if it may read the response."""
        origin = self.request.headers.get("Origin")
        return origin if origin in self.services.settings.cors_origins else None

    def authenticate(self) -> SessionToken | None:
        """Read the bearer token (RFC 6750), or a cookie that proves its origin."""
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._count_rejected(self.services.signer.read_bearer_token(token.strip()))
        proof = self.request.headers.get("X-CSRF-Token")
        if proof is None or self.is_cross_site():
            return None
        session = self.read_cookie_session()
        return session if self.is_valid_csrf_token(proof, session) else None

    def read_json(self) -> dict[str, Any]:
        """Read the body: one JSON object, in UTF-8, each name once.

        Raises:
            UnsupportedMediaType: it does not say that it is JSON.
            BadRequest: it is not.
        """
        media_type = self.request.headers.get("Content-Type", "").partition(";")[0].strip()
        if media_type.lower() != "application/json":
            raise UnsupportedMediaType
        try:
            value = _decode(self.request.body.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise BadRequest(Message("The body must be valid JSON in UTF-8.")) from error
        if not isinstance(value, dict):
            raise BadRequest(Message("The body must be a JSON object."))
        if _is_deeper(value, JSON_DEPTH):
            raise BadRequest(Message("The body is nested too deeply."))
        return value

    def write_json(self, value: object, status: int = 200) -> None:
        """Answer with a value as JSON."""
        self.set_status(status)
        self.finish(_encode(value))

    def write_task(self, task: Task, status: int = 200) -> None:
        """Answer with a task and its version as ETag, or 304 if the client has that one."""
        self._write_unless_known(task.updated_at, task, status)

    def write_task_list(self, version: str, page: TaskSlice | None) -> None:
        """Answer with a list and its version, or 304 likewise; a list that is known may be None."""
        value = page and {"tasks": page.tasks, "nextCursor": page.next_cursor}
        self._write_unless_known(version, value)

    def _write_unless_known(self, version: str, value: object, status: int = 200) -> None:
        self.set_header("Etag", f'"{version}"')
        if self.is_safe() and self._is_known(version):
            self.set_status(304)
            self.finish()
        else:
            self.write_json(value, status)

    def _is_known(self, version: str) -> bool:
        known = self.request.headers.get("If-None-Match", "")
        return known.strip() == "*" or version in _tags(known)

    def read_known_versions(self) -> list[str]:
        """Read the versions that `If-None-Match` names (RFC 9110, 13.1.2); none of them for `*`."""
        return _tags(self.request.headers.get("If-None-Match", ""))

    def read_versions(self) -> list[str] | None:
        """Read the versions that `If-Match` names (RFC 9110, 13.1.1); None when any will do."""
        header = self.request.headers.get("If-Match", "")
        if not header or header.strip() == "*":
            return None
        return [version for version in _tags(header) if is_version(version)]

    def render_error(self, error: TaskappError) -> None:
        """Write a problem (RFC 9457)."""
        problem = make_problem(error, self._request_id)
        if isinstance(error, Invalid):
            problem["errors"] = [
                {"field": field, "message": str(message)} for field, message in error.errors.items()
            ]
        if error.status == 401:
            self.set_header("WWW-Authenticate", 'Bearer realm="taskapp"')
        self.set_header("Content-Type", "application/problem+json")
        self.finish(_encode(problem))

    def _set_rate_limit_headers(self, allowance: RateLimitStatus) -> None:
        """Say what is left, as draft-ietf-httpapi-ratelimit-headers does."""
        self._rate_limit_headers = {
            "RateLimit-Policy": f'"{allowance.name}";q={allowance.amount};w={allowance.window}',
            "RateLimit": f'"{allowance.name}";r={allowance.remaining};t={allowance.reset}',
        }
        self._repeat_rate_limit_headers()

    def _repeat_rate_limit_headers(self) -> None:
        for name, value in self._rate_limit_headers.items():
            self.set_header(name, value)

    def set_retry_after(self, error: TaskappError | None) -> None:
        """Say when to try again, and what is left of the limit that was used up."""
        super().set_retry_after(error)
        if isinstance(error, TooManyRequests):
            self._set_rate_limit_headers(error.rate_limit)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Keep what is left of the limit in errors too, from which Tornado removed it."""
        self._repeat_rate_limit_headers()
        super().write_error(status_code, **kwargs)


class NotFoundApi(ApiHandler):
    """Everything under /api/ that has no route."""

    is_public = True

    async def prepare(self) -> None:
        """Refuse, whatever the method."""
        raise NotFound


class PayloadTooLargeApi(ApiHandler):
    """A request of the API whose body was too large."""

    is_public = True

    async def prepare(self) -> None:
        """Refuse, whatever the method."""
        raise BodyTooLarge


ApiHandler.too_large = PayloadTooLargeApi


def _tags(header: str) -> list[str]:
    """Read a list of entity tags.

    A weak tag counts as its strong one: a proxy that compresses makes it weak, and it still names
    the version.
    """
    tags = (tag.strip().removeprefix("W/") for tag in header.split(","))
    return [tag[1:-1] for tag in tags if tag[:1] == tag[-1:] == '"']


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name came twice")
    return value


def _is_deeper(value: object, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_is_deeper(part, depth - 1) for part in inner)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant).decode
