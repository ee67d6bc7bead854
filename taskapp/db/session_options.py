"""What every connection to PostgreSQL is set to, and whether the server took it.

A pooler in between, such as PgBouncer, drops what is asked for at connect. The same then has to be
set for the role, or times would be read wrongly and statements could run for ever.
"""

from taskapp.config.settings import SettingsError

SERVER_TIMEOUT = 3.5  # seconds; when the server gives up first, a change is known to be undone
OPTIONS = f"-c timezone=UTC -c datestyle=ISO -c statement_timeout={int(SERVER_TIMEOUT * 1000)}"
ASKED = (
    "SELECT current_setting('TimeZone'), current_setting('DateStyle'), setting::bigint"
    " FROM pg_settings WHERE name = 'statement_timeout'"
)


_PROBLEM = (
    "TASKAPP_DATABASE_URL: its connections do not take their options, as behind a pooler. Set them "
    "for the user of that address: ALTER ROLE ... SET timezone = 'UTC'; ALTER ROLE ... SET "
    "datestyle = 'ISO'; ALTER ROLE ... SET statement_timeout = "
    f"{int(SERVER_TIMEOUT * 1000)}; then let the pooler connect anew."
)


def check_options(time_zone: str, date_style: str, timeout_milliseconds: int) -> None:
    """Make sure that a connection has what was asked for, given what it answers to `ASKED`.

    Raises:
        SettingsError: it has not; it says what to run.
    """
    is_limited = 0 < timeout_milliseconds <= SERVER_TIMEOUT * 1000
    if time_zone not in {"UTC", "Etc/UTC"} or not date_style.startswith("ISO") or not is_limited:
        raise SettingsError([_PROBLEM])
