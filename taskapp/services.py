"""The parts that operations use, in one object that is created at the start."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskapp.auth.passwords import PasswordHasher
from taskapp.auth.rate_limits import RateLimits
from taskapp.auth.signing import Signer
from taskapp.backups.status import BackupStatus
from taskapp.config.secret_key import load_secret_keys
from taskapp.config.settings import Settings
from taskapp.db.database import Database
from taskapp.maintenance_mode import Maintenance, maintenance_file
from taskapp.observability.availability import Availability
from taskapp.observability.metrics import Metrics

if TYPE_CHECKING:  # it imports OpenTelemetry
    from taskapp.observability.tracing import Tracing


@dataclass(frozen=True)
class Services:
    """The parts of taskapp that live as long as the process."""

    settings: Settings
    metrics: Metrics
    availability: Availability
    maintenance: Maintenance
    database: Database
    passwords: PasswordHasher
    signer: Signer
    limits: RateLimits
    backups: BackupStatus
    tracing: "Tracing | None"

    def span(self, name: str) -> AbstractContextManager[None]:
        """Record the time of the block in the trace of the request, if it is traced."""
        return nullcontext() if self.tracing is None else self.tracing.span(name)


def make_services(settings: Settings, tracing: "Tracing | None" = None) -> Services:
    """Create all parts; the database is not opened yet.

    Raises:
        SettingsError: the secret key cannot be read or written.
    """
    metrics = Metrics()
    return Services(
        settings=settings,
        metrics=metrics,
        availability=Availability(),
        maintenance=Maintenance(maintenance_file(settings)),
        database=Database(settings.database_pool, metrics, tracing),
        passwords=PasswordHasher(settings.bcrypt_rounds),
        signer=Signer(load_secret_keys(settings)),
        limits=RateLimits(
            settings.limit_storage,
            failed_logins=settings.login_limit,
            failed_logins_of_account=settings.account_login_limit,
            successful_logins=settings.successful_login_limit,
            registrations=settings.register_limit,
            api=settings.api_limit,
            pages=settings.page_limit,
        ),
        backups=BackupStatus(settings),
        tracing=tracing,
    )
