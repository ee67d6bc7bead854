"""The errors of taskapp: for clients, each with its HTTP status (RFC 9110), and for operators."""

from collections.abc import Mapping
from typing import NamedTuple

from taskapp.core.messages import Message


class TaskappError(Exception):
    """An expected error, whose message may be shown to the client."""

    status = 500
    title = Message("Something went wrong")
    detail: str = Message("An unexpected error occurred.")

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.detail)
        self.detail = detail or self.detail


class OperatorError(Exception):
    """An expected error whose message says what an operator has to do; no request meets it."""


class BadRequest(TaskappError):
    """The request cannot be understood."""

    status = 400
    title = Message("Bad request")
    detail = Message("The server could not understand the request.")


class Invalid(TaskappError):
    """Fields are not valid; `errors` maps the name of each to a message."""

    status = 400
    title = Message("Invalid data")
    detail = Message("Some fields are invalid.")

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__()
        self.errors = dict(errors)


class EmailTaken(Invalid):
    """Another account has this email address."""

    status = 409
    title = Message("Email already registered")
    detail = Message("An account with this email address already exists.")

    def __init__(self) -> None:
        super().__init__({"email": self.detail})


class NotAuthenticated(TaskappError):
    """The request has no session, or one that has ended."""

    status = 401
    title = Message("Not logged in")
    detail = Message("Log in to continue. Your session may have expired.")


class WrongCredentials(TaskappError):
    """The email address or the password is wrong; the message does not say which."""

    status = 401
    title = Message("Incorrect email or password")
    detail = Message("The email address or password is incorrect.")


class Forbidden(TaskappError):
    """The session is valid, but its user may not do this."""

    status = 403
    title = Message("Access denied")
    detail = Message("This belongs to another user.")


class ReadOnlyToken(Forbidden):
    """A request for a change has a read-only personal token."""

    title = Message("Read-only token")
    detail = Message("This token is read-only. Create one with write access on the account page.")


class AccountFull(TaskappError):
    """The account would exceed its quota of tasks or characters."""

    status = 403
    title = Message("Your account is full")


class FormNotTrusted(Forbidden):
    """A form has no valid CSRF token."""

    title = Message("The form could not be verified")
    detail = Message("We could not verify that this form was sent from this site.")


class RegistrationClosed(Forbidden):
    """Only the operator creates accounts."""

    title = Message("Registration is closed")
    detail = Message("Ask the administrator of this server for an account.")


class NotFound(TaskappError):
    """The resource does not exist."""

    status = 404
    title = Message("Not found")
    detail = Message("Nothing was found at this address.")


class TaskNotFound(NotFound):
    """No task has this id."""

    title = Message("Task not found")
    detail = Message("This task does not exist. It may have been deleted.")


class SessionNotFound(NotFound):
    """The user has no session or personal token with this id."""

    title = Message("Session or token not found")
    detail = Message("It may have expired or been revoked.")


class MethodNotAllowed(TaskappError):
    """The resource exists but does not support the method."""

    status = 405
    title = Message("Method not allowed")
    detail = Message("This URL does not support this method.")


class VersionConflict(TaskappError):
    """The task has changed since the version in the request."""

    status = 412
    title = Message("The task has changed")
    detail = Message("This task has changed since you loaded it. Reload it and try again.")


class BodyTooLarge(TaskappError):
    """The request body exceeds the size limit."""

    status = 413
    title = Message("Request too large")
    detail = Message("The request exceeds the size limit.")


class HeadersTooLarge(TaskappError):
    """The request line and the headers together exceed the size limit (RFC 6585, 5)."""

    status = 431
    title = Message("Headers too large")
    detail = Message("The headers of the request exceed the size limit.")


class Misdirected(TaskappError):
    """The request names a host that is not this site's."""

    status = 421
    title = Message("Unknown host name")
    detail = Message(
        "This server does not know the host name in the address. Its administrator can add it to "
        "TASKAPP_ALLOWED_HOSTS."
    )


class UnsupportedMediaType(TaskappError):
    """The request body is not JSON."""

    status = 415
    title = Message("Unsupported media type")
    detail = Message("The Content-Type must be application/json.")


class EncodedBody(UnsupportedMediaType):
    """The request body has a content coding, such as gzip."""

    detail = Message("The body must not be compressed. Send it without Content-Encoding.")


class Disconnected(TaskappError):
    """The client has closed the connection, and nobody reads the response."""

    status = 499  # of no RFC; nginx logs the same number
    title = Message("Connection closed")
    detail = Message("The connection was closed before the response.")


class RateLimitStatus(NamedTuple):
    """The state of a rate limit: `remaining` hits of `amount`.

    The oldest hit expires in `reset` seconds; the window has `window` seconds.
    """

    name: str
    amount: int
    remaining: int
    reset: int
    window: int


class TooManyRequests(TaskappError):
    """A rate limit is reached; the client may retry after `retry_after` seconds."""

    status = 429
    title = Message("Too many requests")
    detail = Message("You have sent too many requests.")
    reasons: Mapping[str, Message] = {  # by the name of the limit
        "login": Message("Too many wrong passwords have been sent from your network."),
        "device": Message("Too many wrong passwords have been sent from this browser."),
        "account": Message(
            "Too many failed logins for this email address. You can still log in from where you "
            "have logged in before."
        ),
        "session": Message("Too many logins to this account."),
        "queue": Message("Too many logins from your network are waiting."),
        "register": Message("Too many accounts have been created from your network."),
        "pages": Message("You have opened or sent too many pages."),
        "api": Message("This account has sent too many requests to the API."),
    }

    def __init__(self, rate_limit: RateLimitStatus) -> None:
        super().__init__(self.reasons.get(rate_limit.name))
        self.rate_limit = rate_limit
        self.retry_after = max(1, rate_limit.reset)


class Unavailable(TaskappError):
    """A part that the response needs is down; the client may retry after `retry_after` seconds."""

    status = 503
    title = Message("Temporarily unavailable")
    detail = Message("The database is not responding.")

    def __init__(self, detail: str | None = None, *, retry_after: int = 2) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class TablesUnusable(Unavailable):
    """The tables are not where this user of the database looks, or not for this user.

    Its text is for operators: users are only told that the database is not responding.
    """

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.args = (reason,)


class WritesStalled(Unavailable):
    """The database confirms no writes at the moment, and this one was not tried."""

    detail = Message(
        "The database cannot save at the moment. This request has changed nothing. Try again soon."
    )


class OutcomeUnknown(Unavailable):
    """A change was not confirmed in time: it, or an earlier one like it, may be saved or not."""

    detail = Message(
        "The database stopped responding while saving. Your change may or may not have been "
        "saved. Check before you try again."
    )


class UnderMaintenance(Unavailable):
    """The site is closed for maintenance; the operator may have set a message."""

    title = Message("Down for maintenance")
    detail = Message("taskapp will be back soon. Your data is safe.")

    def __init__(self, message: str) -> None:
        super().__init__(message or None, retry_after=60)


class UniqueViolation(Exception):  # PostgreSQL's name of SQLSTATE 23505
    """A row with the same value exists; `constraint` is the name of the unique constraint."""

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.constraint = constraint
