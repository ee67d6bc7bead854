"""The errors of taskapp, each with its HTTP status (RFC 9110) and a message for users."""

from collections.abc import Mapping
from typing import NamedTuple

from taskapp.core.messages import Message


class TaskappError(Exception):
    """An expected error, whose message may be shown to the client."""

    status = 500
    title = Message("Something went wrong")
    detail: str = Message("The server met an error that it did not expect.")

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.detail)
        self.detail = detail or self.detail


class BadRequest(TaskappError):
    """The request cannot be understood."""

    status = 400
    title = Message("Bad request")
    detail = Message("The request could not be understood.")


class Invalid(TaskappError):
    """Fields are not valid; `errors` maps the name of each to a message."""

    status = 400
    title = Message("Invalid data")
    detail = Message("Some fields need another look.")

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__()
        self.errors = dict(errors)


class EmailTaken(Invalid):
    """Another account has this e-mail address."""

    status = 409
    title = Message("E-mail already registered")
    detail = Message("An account with this e-mail address already exists.")

    def __init__(self) -> None:
        super().__init__({"email": self.detail})


class NotAuthenticated(TaskappError):
    """The request has no session, or one that has ended."""

    status = 401
    title = Message("Not logged in")
    detail = Message("Log in first: there is no session, or it has ended.")


class WrongCredentials(TaskappError):
    """The e-mail address or the password is wrong; the message does not say which."""

    status = 401
    title = Message("Wrong e-mail or password")
    detail = Message("The e-mail address or the password is not right.")


class Forbidden(TaskappError):
    """The session is valid, but its user may not do this."""

    status = 403
    title = Message("Not yours")
    detail = Message("This belongs to somebody else.")


class ReadOnlyToken(Forbidden):
    """A request for a change has a read-only personal token."""

    title = Message("Read only")
    detail = Message("This token can only read. Make one on the account page that can also change.")


class FormNotTrusted(Forbidden):
    """A form has no valid CSRF token."""

    title = Message("The form was not taken")
    detail = Message("We could not make sure that it was sent by a page of this site.")


class RegistrationClosed(Forbidden):
    """Only the operator creates accounts."""

    title = Message("Registration is closed")
    detail = Message("New accounts are made by whoever runs this server.")


class NotFound(TaskappError):
    """The resource does not exist."""

    status = 404
    title = Message("Not found")
    detail = Message("There is nothing at this address.")


class TaskNotFound(NotFound):
    """No task has this id."""

    title = Message("No such task")
    detail = Message("There is no task with this id; it may have been deleted.")


class SessionNotFound(NotFound):
    """The user has no session or personal token with this id."""

    title = Message("No such session or token")
    detail = Message("It may have ended already.")


class MethodNotAllowed(TaskappError):
    """The resource exists but does not support the method."""

    status = 405
    title = Message("Method not allowed")
    detail = Message("This address does not take this method.")


class VersionConflict(TaskappError):
    """The task has changed since the version in the request."""

    status = 412
    title = Message("The task has changed")
    detail = Message("The task was changed since you read it; read it again.")


class BodyTooLarge(TaskappError):
    """The request body exceeds the size limit."""

    status = 413
    title = Message("Too large")
    detail = Message("The request is larger than this server accepts.")


class UnsupportedMediaType(TaskappError):
    """The request body is not JSON."""

    status = 415
    title = Message("Unsupported media type")
    detail = Message("Send the body as application/json.")


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
    detail = Message("That was too often.")

    def __init__(self, rate_limit: RateLimitStatus) -> None:
        super().__init__()
        self.rate_limit = rate_limit
        self.retry_after = max(1, rate_limit.reset)


class AccountRateLimited(TooManyRequests):
    """Too many logins to this account have failed; addresses it knows are not limited."""

    detail = Message(
        "There were too many wrong passwords for this e-mail address. Where you have logged in "
        "before, you still can."
    )


class Unavailable(TaskappError):
    """A part that the response needs is down; the client may retry after `retry_after` seconds."""

    status = 503
    title = Message("Not available just now")
    detail = Message("The database does not answer just now.")

    def __init__(self, detail: str | None = None, *, retry_after: int = 2) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class OutcomeUnknown(Unavailable):
    """The connection broke during a change, which may or may not have been committed."""

    detail = Message(
        "The database stopped answering while this was being saved: it may or may not have "
        "been saved. Look before you send it again."
    )


class UnderMaintenance(Unavailable):
    """The site is closed for maintenance; the operator may have set a message."""

    title = Message("Closed for maintenance")
    detail = Message("taskapp is being looked after, and will be back soon. Nothing is lost.")

    def __init__(self, message: str) -> None:
        super().__init__(message or None, retry_after=60)


class UniqueViolation(Exception):  # PostgreSQL's own name for it
    """A row with the same value exists; `constraint` is the name of the unique constraint."""

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.constraint = constraint
