"""How the backups are: what health, metrics and doctor say."""

from datetime import UTC, datetime, timedelta

from taskapp.backups.create import backup_repository
from taskapp.backups.wal_archive import ARCHIVE_INTERVAL, archive_lag
from taskapp.config.settings import Settings

# Seconds after which a WAL segment that waits means a broken archive.
ARCHIVE_TIMEOUT = 5 * ARCHIVE_INTERVAL
LATE_AFTER = 2  # intervals without a backup


class BackupStatus:
    """Looks at the folders each time it is asked: a command may have made the newest backup."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings; nothing is looked at yet."""
        self._settings = settings
        self._folder = backup_repository(settings)
        self.has_failed = False  # the last attempt of this process

    @property
    def newest(self) -> datetime | None:
        """Give when the newest backup was begun; None when there is none that can be seen."""
        try:
            return self._folder.newest_timestamp("base", "dump")
        except OSError:
            return None

    @property
    def age(self) -> int | None:
        """Give the age of the newest backup in seconds."""
        newest = self.newest
        return None if newest is None else int((datetime.now(UTC) - newest).total_seconds())

    @property
    def waiting_wal(self) -> tuple[int, float]:
        """Tell how many files wait to be archived, and for how many seconds the first does."""
        if not self._settings.archives_wal:
            return 0, 0.0
        try:
            return archive_lag(self._settings.data_dir / "postgres")
        except OSError:  # they belong to another user, or come and go
            return 0, 0.0

    @property
    def is_archive_broken(self) -> bool:
        """Tell whether a file has waited for longer than one that is merely being archived."""
        return self.waiting_wal[1] > ARCHIVE_TIMEOUT

    @property
    def is_due(self) -> bool:
        """Tell whether it is time for the next backup."""
        every, newest = timedelta(seconds=self._settings.backup_every), self.newest
        return bool(every) and (newest is None or datetime.now(UTC) - newest >= every)

    def state(self) -> str:
        """Say how the backups are: off, failing, none, late, or current."""
        age, every = self.age, self._settings.backup_every
        if not every:
            return "off"
        if self.has_failed or self.is_archive_broken:
            return "failing"
        if age is None:
            return "none"
        return "late" if age > LATE_AFTER * every else "current"
