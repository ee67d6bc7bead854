"""Every way in which taskapp says no, each with its HTTP status (RFC 9110) and its words."""

from collections.abc import Mapping
from typing import NamedTuple

from taskapp.core.messages import Message


class TaskappError(Exception):
    """A refusal whose words may be shown to whoever asked."""

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
    """Fields were sent that cannot be accepted: `errors` maps each to what is wrong with it."""

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
    """Nobody's session came with the request, or one that is over."""

    status = 401
    title = Message("Not logged in")
    detail = Message("Log in first: there is no session, or it has ended.")


class WrongCredentials(TaskappError):
    """No account has this e-mail address and this password; which half is wrong is not said."""

    status = 401
    title = Message("Wrong e-mail or password")
    detail = Message("The e-mail address or the password is not right.")


class Forbidden(TaskappError):
    """The session is good, but this is not for its user."""

    status = 403
    title = Message("Not yours")
    detail = Message("This belongs to somebody else.")


class ReadOnlyToken(Forbidden):
    """A personal token that may only read was sent with a change."""

    title = Message("Read only")
    detail = Message("This token can only read. Make one on the account page that can also change.")


class FormNotTrusted(Forbidden):
    """A form came without the proof that a page of this site sent it."""

    title = Message("The form was not taken")
    detail = Message("We could not make sure that it was sent by a page of this site.")


class RegistrationClosed(Forbidden):
    """Accounts are made by the operator only."""

    title = Message("Registration is closed")
    detail = Message("New accounts are made by whoever runs this server.")


class NotFound(TaskappError):
    """There is no such thing."""

    status = 404
    title = Message("Not found")
    detail = Message("There is nothing at this address.")


class TaskNotFound(NotFound):
    """There is no task with this id."""

    title = Message("No such task")
    detail = Message("There is no task with this id; it may have been deleted.")


class SessionNotFound(NotFound):
    """The owner has no session and no personal token with this id."""

    title = Message("No such session or token")
    detail = Message("It may have ended already.")


class MethodNotAllowed(TaskappError):
    """The address is right and the method is not."""

    status = 405
    title = Message("Method not allowed")
    detail = Message("This address does not take this method.")


class VersionConflict(TaskappError):
    """Somebody else changed the task since the version that was named."""

    status = 412
    title = Message("The task has changed")
    detail = Message("The task was changed since you read it; read it again.")


class BodyTooLarge(TaskappError):
    """More was sent than any request of ours needs."""

    status = 413
    title = Message("Too large")
    detail = Message("The request is larger than this server accepts.")


class UnsupportedMediaType(TaskappError):
    """The body is not of a type that this address reads."""

    status = 415
    title = Message("Unsupported media type")
    detail = Message("Send the body as application/json.")


class RateLimitStatus(NamedTuple):
    """What is left of a limit: `remaining` of `amount`, anew in `reset` of `window` seconds."""

    name: str
    amount: int
    remaining: int
    reset: int
    window: int


class TooManyRequests(TaskappError):
    """A limit is used up; `allowance.reset` says in how many seconds to try again."""

    status = 429
    title = Message("Too many requests")
    detail = Message("That was too often.")

    def __init__(self, allowance: RateLimitStatus) -> None:
        super().__init__()
        self.allowance = allowance
        self.retry_after = max(1, allowance.reset)


class AccountRateLimited(TooManyRequests):
    """The account's own limit of failed logins is used up, for all but the addresses it knows."""

    detail = Message(
        "There were too many wrong passwords for this e-mail address. Where you have logged in "
        "before, you still can."
    )


class Unavailable(TaskappError):
    """A part that the answer needs does not answer; try again after `retry_after` seconds."""

    status = 503
    title = Message("Not available just now")
    detail = Message("The database does not answer just now.")

    def __init__(self, detail: str | None = None, *, retry_after: int = 2) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class OutcomeUnknown(Unavailable):
    """The connection broke while a change was under way: it may or may not have been saved."""

    detail = Message(
        "The database stopped answering while this was being saved: it may or may not have "
        "been saved. Look before you send it again."
    )


class UnderMaintenance(Unavailable):
    """An operator has closed the site for a while; what people are told may be their own words."""

    title = Message("Closed for maintenance")
    detail = Message("taskapp is being looked after, and will be back soon. Nothing is lost.")

    def __init__(self, words: str) -> None:
        super().__init__(words or None, retry_after=60)


class UniqueViolation(Exception):  # PostgreSQL's own name for it
    """The database refused a second row of the same value; `constraint` names the rule."""

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.constraint = constraint
