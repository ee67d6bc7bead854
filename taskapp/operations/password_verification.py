"""Checks of a password at login, and hashes of new ones."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256

from taskapp.auth.rate_limits import Counts
from taskapp.core.client_address import site_key
from taskapp.core.errors import Invalid, TooManyRequests, WrongCredentials
from taskapp.forms.accounts import WEAK_PASSWORD, folded_email_key
from taskapp.observability.logs import log
from taskapp.queries.login_addresses import REMEMBERED_FOR
from taskapp.queries.users import Credentials
from taskapp.services import Services

MAX_DEVICES = 4  # in the cookie of one browser, of as many people


class PasswordCheck:
    """A check of the password that a client sent for the account `found`, if there is one.

    A failure counts for the device, if the user has logged in on it before, or else for the IP
    address. Unless the user has logged in from there, it counts for the account too, but only so
    often for one site, and in the same way for an email address without an account. A success
    counts for the account.
    """

    def __init__(
        self,
        services: Services,
        found: Credentials | None,
        *,
        email: str,
        address: str,
        devices: Sequence[str] = (),
    ) -> None:
        """Set who sends a password; `devices` has what the cookie of the browser says."""
        self._services = services
        self._found = found
        self._account = folded_email_key(email)  # of all addresses that may be of one account
        self._address = address
        self._device = found and _find_device(services, found, devices)
        self._is_known = found is not None and (found.is_known_address or bool(self._device))
        limits = services.limits
        account = sha256(self._account.encode()).hexdigest()
        self._failures = limits.failed_logins.counts(address)
        self._failures_of_account = Counts((limits.failed_logins_of_account, account))
        self._failures_of_account_from_site = Counts(
            (limits.failed_logins_of_account_from_site, f"{account} {site_key(address)}")
        )
        self._successes = Counts((limits.successful_logins, found.user_id)) if found else Counts()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until the password may be checked, which the block does.

        Raises:
            TooManyRequests: too many attempts from the IP address or for the account have failed,
                too many logins to the account have succeeded, or one of them waits for too many
                others already.
            Unavailable: too many passwords are waiting to be hashed.
            Disconnected: the client has hung up meanwhile.
        """
        await self._prefer_device()
        failures = self._failures if self._is_known else self._failures + self._failures_of_account
        queue = self._services.passwords.queue
        try:
            # Before the queue, where the limited would take places, and again when they are known.
            await failures.check()
            await self._successes.check()
            async with (
                queue.turn(site_key(self._address), self._account, is_known=self._is_known),
                failures.attempt(),
            ):
                await self._successes.check()
                yield
        except TooManyRequests:
            self._services.metrics.logins.labels("limited").inc()
            raise

    async def _prefer_device(self) -> None:
        """Count for the device in place of the address, unless the device has failed too often."""
        if not self._device or not self._found:
            return
        failures = Counts((self._services.limits.failed_logins_of_device, self._device))
        try:
            await failures.check()
        except TooManyRequests:
            self._is_known = self._found.is_known_address
        else:
            self._failures = failures

    async def verify(self, password: str) -> Credentials:
        """Return the account if this is its password; only within a turn.

        Raises:
            WrongCredentials: there is no such account, or the password is wrong.
            TooManyRequests: other processes have reached a limit meanwhile.
        """
        found = self._found
        with self._services.span("password.check"):
            is_right = await self._services.passwords.matches(
                password, found and found.password_hash
            )
        if is_right and found:
            await self._successes.hit()
            return found
        self._services.metrics.logins.labels("failed").inc()
        user_id = found.user_id if found else None
        log("login.failed", "warning", userId=user_id, address=self._address)
        await self._failures.hit()
        if not self._is_known:
            await self._count_for_account()
        raise WrongCredentials

    async def _count_for_account(self) -> None:
        try:
            await self._failures_of_account_from_site.hit()
        except TooManyRequests:
            return  # one site alone cannot lock an account
        await self._failures_of_account.hit()


def renew_devices(
    services: Services, devices: Sequence[str], account: Credentials, new_hash: str
) -> list[str]:
    """Return the devices of a browser on which the user of an account has logged in just now.

    The one of this user is replaced; what was issued for another password is no longer known.
    """
    mine = _find_device(services, account, devices)
    others = [device for device in devices if device != mine]
    return [services.signer.new_device(account.user_id, new_hash), *others][:MAX_DEVICES]


async def hash_new_password(
    services: Services, email: str, password: str, *, field: str = "password"
) -> str:
    """Return the hash of a new password.

    Raises:
        Invalid: it is easily guessed; `field` has the message.
    """
    if await services.passwords.is_weak(password, email):
        raise Invalid({field: WEAK_PASSWORD})
    with services.span("password.hash"):
        return await services.passwords.hash(password)


def _find_device(services: Services, account: Credentials, devices: Sequence[str]) -> str | None:
    """Return the first device on which the user has logged in, or None."""
    for device in devices[:MAX_DEVICES]:
        if services.signer.is_device(
            device, account.user_id, account.password_hash, max_age=REMEMBERED_FOR
        ):
            return device
    return None
