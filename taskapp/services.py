"""The parts that operations use, in one object that is created at the start."""

from dataclasses import dataclass

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


def make_services(settings: Settings) -> Services:
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
        database=Database(settings.database_pool, metrics),
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
    )
