"""Checks of a password at login, and hashes of new ones."""

from hashlib import sha256

from taskapp.auth.rate_limits import RateLimit
from taskapp.core.client_address import limit_key
from taskapp.core.errors import AccountRateLimited, Invalid, TooManyRequests, WrongCredentials
from taskapp.forms.accounts import WEAK_PASSWORD
from taskapp.observability.logs import log
from taskapp.queries.users import Credentials
from taskapp.services import Services


async def check_password(
    services: Services, found: Credentials | None, *, email: str, password: str, address: str
) -> Credentials:
    """Return the account `found` for an email address if this is its password.

    A failure counts for the IP address. Unless the user has logged in from there before, it counts
    for the account too, and in the same way for an email address without an account.

    Raises:
        WrongCredentials: there is no such account, or the password is wrong.
        TooManyRequests: too many attempts from the IP address have failed.
        AccountRateLimited: too many attempts for the account have failed.
    """
    limits = services.limits
    counts = [(limits.failed_logins, limit_key(address))]
    if found is None or not found.is_known_address:
        counts.append((limits.failed_logins_of_account, sha256(email.encode()).hexdigest()))
    try:
        for limit, key in counts:
            await _check(services, limit, key)
    except TooManyRequests:
        services.metrics.logins.labels("limited").inc()
        raise
    if await services.passwords.matches(password, found and found.password_hash) and found:
        return found
    services.metrics.logins.labels("failed").inc()
    log("login.failed", "warning", userId=found.user_id if found else None, address=address)
    for limit, key in counts:
        await limit.hit(key)
    raise WrongCredentials


async def hash_new_password(
    services: Services, email: str, password: str, *, field: str = "password"
) -> str:
    """Return the hash of a new password.

    Raises:
        Invalid: it is easily guessed; `field` has the message.
    """
    if await services.passwords.is_weak(password, email):
        raise Invalid({field: WEAK_PASSWORD})
    return await services.passwords.hash(password)


async def _check(services: Services, limit: RateLimit, key: str) -> None:
    try:
        await limit.check(key)
    except TooManyRequests as error:
        if limit is services.limits.failed_logins_of_account:
            raise AccountRateLimited(error.rate_limit) from None
        raise
