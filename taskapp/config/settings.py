"""The settings: a table of name, default and meaning, read from the environment once."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from limits import RateLimitItem

from taskapp.config import parsers as values
from taskapp.config.installation import COMMAND
from taskapp.core.client_address import Network

PREFIX = "TASKAPP_"
MASK = "********"
# Variables that Kubernetes sets for each Service of a namespace, and Docker for each link, named
# after it: a Service `taskapp` gives TASKAPP_PORT=tcp://10.43.12.7:8000, one named `taskapp-db`
# TASKAPP_DB_SERVICE_HOST, a link of that name TASKAPP_DB_ENV_LANG.
_SERVICE_LINK = re.compile(
    r"TASKAPP_(\w+_)?(SERVICE_HOST=.*|SERVICE_PORT(_\w+)?=\d+|PORT=(tcp|udp|sctp)://.*"
    r"|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?=.*|NAME=/.*|ENV_\w+=.*)",
    re.DOTALL,
)


class SettingsError(Exception):
    """Settings are wrong; `problems` has a sentence with the fix for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _setting(
    default: str,
    read: Callable[[str], Any],
    meaning: str,
    *,
    secret: bool = False,
    private_file: bool = False,  # others may not read the file that NAME_FILE names
    standard_name: str = "",  # of a variable that other programs have too
) -> Any:  # dataclasses.field() has to look like the type of its attribute
    return field(
        repr=not secret,
        metadata={
            "default": default,
            "read": read,
            "meaning": meaning,
            "secret": secret,
            "private_file": private_file,
            "standard_name": standard_name,
        },
        kw_only=True,
    )


@dataclass(frozen=True)
class Settings:
    """All settings, validated. Durations are in seconds; paths are absolute."""

    host: str = _setting(
        "127.0.0.1",
        values.listening_address,
        "address to listen on (0.0.0.0 is any of IPv4, :: any of IPv6, * any), or "
        "unix:/path/of/a/socket; a systemd socket takes precedence",
    )
    port: int = _setting("8000", values.whole_number(0, 65535), "port to listen on")
    data_dir: Path = _setting(
        "", values.data_dir, "folder of the embedded database, the secret key and backups"
    )
    database_url: str = _setting(
        "",
        values.database_url,
        "postgresql://... of PostgreSQL 15 or later; empty: embedded",
        secret=True,
    )
    migration_database_url: str = _setting(
        "",
        values.database_url,
        "the same database, as a user that may change tables; empty: TASKAPP_DATABASE_URL",
        secret=True,
    )
    database_pool: int = _setting(
        "10", values.whole_number(1, 500), "database connections per process"
    )
    postgresql_bin: Path | None = _setting(
        "",
        values.path,
        "folder of the embedded database's programs; empty: the package's, else this machine's",
    )
    backup_every: int = _setting(
        "24h", values.duration_or_off, "backup interval; off: only by `backup`"
    )
    backup_keep: int = _setting("7", values.whole_number(1, 1000), "number of backups to keep")
    backup_dir: Path | None = _setting(
        "", values.path, "backup folder, ideally on another disk; empty: in the data folder"
    )
    backup_command: tuple[str, ...] = _setting(
        "", values.command_line, "program to run after each backup, with arguments; empty: none"
    )
    backup_command_timeout: int = _setting(
        "1h", values.duration, "how long that program may take before it is ended"
    )
    secret_key: tuple[str, ...] = _setting(
        "",
        values.secret_keys,
        "signing keys, comma-separated, newest first; empty: generated at the first start",
        secret=True,
    )
    session_idle: int = _setting(
        "24h", values.duration, "sessions expire after this long without use"
    )
    bcrypt_rounds: int = _setting(
        "12",
        values.whole_number(4, 16),
        "bcrypt cost; raising it rehashes at the next login",
    )
    login_limit: RateLimitItem = _setting(
        "5/15minute", values.rate_limit, "failed logins per address"
    )
    account_login_limit: RateLimitItem = _setting(
        "20/hour",
        values.rate_limit,
        "failed logins per account, from addresses and browsers that have not logged in to it",
    )
    successful_login_limit: RateLimitItem = _setting(
        "60/hour", values.rate_limit, "successful logins per account"
    )
    registration: str = _setting(
        "open", values.one_of("open", "closed"), "closed: only `user add` creates accounts"
    )
    register_limit: RateLimitItem = _setting(
        "20/hour", values.rate_limit, "registrations per address"
    )
    api_limit: RateLimitItem = _setting("100/15minute", values.rate_limit, "API requests per user")
    page_limit: RateLimitItem = _setting(
        "600/15minute", values.rate_limit, "requests for pages per user"
    )
    max_tasks: int = _setting(
        "200000", values.whole_number(0, 10**9), "tasks that an account may have; 0: any number"
    )
    max_characters: int = _setting(
        "200000000",
        values.whole_number(0, 10**12),
        "characters that all titles and descriptions of an account may have; 0: any number",
    )
    limit_storage: str = _setting(
        "",
        values.limit_storage,
        "redis://... or redis+sentinel://... to share counts between processes; empty: in memory",
        secret=True,
    )
    trusted_proxies: tuple[Network, ...] = _setting(
        "", values.networks, "addresses whose X-Forwarded-For, -Host and -Proto are trusted"
    )
    base_path: str = _setting("/", values.base_path, "path prefix, if hosted below one")
    public_url: str = _setting(
        "", values.public_url, "https://... in production; enables Secure cookies and HSTS"
    )
    allowed_hosts: frozenset[str] = _setting(
        "",
        values.host_names,
        "more host names of the site, besides those of TASKAPP_PUBLIC_URL, this machine, loopback "
        "and IP addresses",
    )
    cors_origins: frozenset[str] = _setting(
        "", values.origins, "origins allowed to call the API from a browser"
    )
    log_format: str = _setting(
        "auto",
        values.one_of("auto", "text", "json"),
        "auto: short on a terminal, JSON elsewhere",
    )
    log_level: str = _setting(
        "info", values.one_of("debug", "info", "warning", "error"), "minimum level to log"
    )
    metrics_allow: tuple[Network, ...] = _setting(
        "127.0.0.0/8,::1", values.networks, "networks allowed to read /metrics"
    )
    metrics_password: str = _setting(
        "",
        str,
        "password of /metrics (HTTP Basic, with any user name); empty: none",
        secret=True,
    )
    maintenance_flag: Path | None = _setting(
        "", values.path, "file that `maintenance on` creates; empty: in the data folder"
    )
    client_url: str = _setting(
        "",
        values.client_url,
        "https://... of the server that `task` uses; empty: that of TASKAPP_HOST and TASKAPP_PORT",
    )
    client_token: str = _setting(
        "",
        values.client_token,
        "API token that `task` uses; its file must be closed to other users",
        secret=True,
        private_file=True,
    )
    otlp_endpoint: str = _setting(
        "",
        values.collector_url,
        "http(s)://... of an OpenTelemetry collector, which gets traces (OTLP over HTTP, often "
        "port 4318); empty: no traces",
        standard_name="OTEL_EXPORTER_OTLP_ENDPOINT",
    )
    otlp_traces_endpoint: str = _setting(
        "",
        values.collector_url,
        "the same with its path, if that is not /v1/traces",
        standard_name="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    )
    otlp_headers: str = _setting(
        "",
        str,
        "headers that the collector wants, such as api-key=...",
        secret=True,
        standard_name="OTEL_EXPORTER_OTLP_HEADERS",
    )
    traces_exporter: str = _setting(
        "otlp",
        values.one_of("otlp", "none"),
        "none: no traces, whatever the endpoint is",
        standard_name="OTEL_TRACES_EXPORTER",
    )
    trace_parents: tuple[Network, ...] = _setting(
        "",
        values.networks,
        "addresses whose traceparent is continued; the requests of all others begin a trace",
    )
    texts: Mapping[str, str] = field(repr=False, kw_only=True)  # unparsed, by variable
    # The variables of OpenTelemetry, which reads those itself that are no settings of taskapp.
    opentelemetry: Mapping[str, str] = field(repr=False, kw_only=True)

    @property
    def is_https(self) -> bool:
        """Return whether users reach this server over https."""
        return self.public_url.startswith("https://")

    @property
    def uses_embedded_database(self) -> bool:
        """Return whether the database is the embedded one."""
        return not self.database_url

    @property
    def has_collector(self) -> bool:
        """Return whether there is a collector to send traces to."""
        endpoint = self.otlp_endpoint or self.otlp_traces_endpoint
        return bool(endpoint) and self.traces_exporter == "otlp"

    @property
    def archives_wal(self) -> bool:
        """Return whether WAL is archived, so that every second since a backup can be restored."""
        return self.uses_embedded_database and self.backup_every > 0


SETTINGS = [item for item in fields(Settings) if item.metadata]
_STANDARD_NAMES = {item.name: item.metadata["standard_name"] for item in SETTINGS}


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return _STANDARD_NAMES[name] or PREFIX + name.upper()


def without_service_links(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables but those that Kubernetes or Docker set for a service."""
    return {
        name: text
        for name, text in environment.items()
        if not _SERVICE_LINK.fullmatch(f"{name}={text}")
    }


def load_settings(environment: Mapping[str, str]) -> Settings:
    """Return all settings of environment variables.

    A secret may also be in a file, whose path is in the variable with `_FILE` appended to its name.

    Raises:
        SettingsError: one or more are wrong; it lists all of them.
    """
    problems: list[str] = []
    read: dict[str, Any] = {}
    texts: dict[str, str] = {}
    for item in SETTINGS:
        name = variable(item.name)
        try:
            texts[name] = _text(environment, name, item.metadata)
            read[item.name] = item.metadata["read"](texts[name])
        except (ValueError, OSError) as error:
            problems.append(f"{name}: {error}")
    problems += _unknown(environment)
    if problems:
        raise SettingsError(problems)
    opentelemetry = {
        name: text
        for name, text in environment.items()
        if name.startswith("OTEL_") and text.strip()
    }
    return Settings(texts=texts, opentelemetry=opentelemetry, **read)


def _text(environment: Mapping[str, str], name: str, metadata: Mapping[str, Any]) -> str:
    path = environment.get(f"{name}_FILE", "") if metadata["secret"] else ""
    text = environment.get(name, "").strip()
    if "\0" in path + text:  # a file .env can hold it, unlike the environment
        raise ValueError("has a NUL character; save the file .env as plain text")
    if path and text:
        raise ValueError(f"conflicts with {name}_FILE; set only one of them")
    if path:
        text = values.read_text_file(Path(path), is_private=metadata["private_file"])
    return text or metadata["default"]


def _unknown(environment: Mapping[str, str]) -> list[str]:
    known = {variable(item.name) for item in SETTINGS}
    known |= {f"{variable(item.name)}_FILE" for item in SETTINGS if item.metadata["secret"]}
    return [
        f"{name}: unknown setting; see `{COMMAND} settings`"
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in known
    ]


def describe_settings(settings: Settings) -> list[tuple[str, str, str]]:
    """Return name, value and meaning of every setting, with masked secrets."""
    rows = []
    for item in SETTINGS:
        text = settings.texts[variable(item.name)]
        if item.name == "data_dir":
            text = str(settings.data_dir)
        elif item.metadata["secret"] and text:
            text = MASK
        rows.append((variable(item.name), text, item.metadata["meaning"]))
    return rows
