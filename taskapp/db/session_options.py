"""Session options (GUCs) of every connection, and the check that the server applied them.

A pooler such as PgBouncer may drop the options of the connection string. They then have to be set
for the role: otherwise timestamps would be misread and statements could run for ever.
"""

from taskapp.config.settings import SettingsError

# Seconds. Less than STATEMENT_TIMEOUT: what the server itself cancels is known to be rolled back.
SERVER_TIMEOUT = 3.5
# The server's warnings say whether a change is durable; what else it reports is not for us.
OPTIONS = (
    f"-c timezone=UTC -c datestyle=ISO -c client_min_messages=warning"
    f" -c statement_timeout={int(SERVER_TIMEOUT * 1000)}"
)
# libpq sends these variables of the environment after the options, which they would override.
OVERRIDING_VARIABLES = ("PGDATESTYLE", "PGTZ")
OPTIONS_QUERY = (
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
    """Check the session options of a connection, given the row that `OPTIONS_QUERY` returns.

    Raises:
        SettingsError: one is missing; the message says which statements to run.
    """
    is_limited = 0 < timeout_milliseconds <= SERVER_TIMEOUT * 1000
    if time_zone not in {"UTC", "Etc/UTC"} or not date_style.startswith("ISO") or not is_limited:
        raise SettingsError([_PROBLEM])
