"""The settings: one table of name, default and meaning, read from the environment once."""

import ipaddress
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import platformdirs
from limits import RateLimitItem, parse_many

from taskapp.addresses import UNIX_SOCKET, Network

PREFIX = "TASKAPP_"
MASK = "********"
SECRET_KEY_LENGTH = 32  # characters, at least
# What stands in examples; nothing that is hard to guess is made of these words.
_WELL_KNOWN_WORDS = re.compile(
    "secret|password|change|default|insecure|example|please|cookie|token|generate|random|value|"
    "your|here|todo|own|key|0123456789|abcdefghijklmnopqrstuvwxyz|[-_.: ]"
)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_ORIGIN_NEEDED = "an address such as https://tasks.example.com is needed"
CHECKOUT = Path(__file__).resolve().parent.parent


class SettingsError(Exception):
    """Some settings are wrong: `problems` holds a sentence with the fix for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _setting(
    default: str, read: Callable[[str], Any], meaning: str, *, secret: bool = False
) -> Any:  # dataclasses.field() has to look like the type of its attribute
    return field(
        repr=not secret,
        metadata={"default": default, "read": read, "meaning": meaning, "secret": secret},
        kw_only=True,
    )


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high} is needed")
        return int(text)

    return read


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"one of {', '.join(choices)} is needed")
        return text

    return read


def _duration(text: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,6})(s|m|h|d)", text)
    if match is None:
        raise ValueError("a number and a unit is needed, such as 45m, 24h or 7d")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def _rate_limit(text: str) -> RateLimitItem:
    needed = "a number and a period is needed, such as 5/15minute"
    try:
        items = parse_many(text)
    except ValueError as error:
        raise ValueError(needed) from error
    if len(items) != 1 or items[0].amount < 1:
        raise ValueError(needed)
    return items[0]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _networks(text: str) -> tuple[Network, ...]:
    networks: list[Network] = []
    for word in _words(text):
        try:
            networks.append(UNIX_SOCKET if word == UNIX_SOCKET else ipaddress.ip_network(word))
        except ValueError as error:
            raise ValueError(
                "addresses or networks are needed, such as 127.0.0.1, 10.0.0.0/8"
            ) from error
    return tuple(networks)


def _data_dir(text: str) -> Path:
    if text:
        try:
            return Path(text).expanduser().absolute()
        except RuntimeError as error:
            raise ValueError("the home folder is not known; write the path without ~") from error
    if (CHECKOUT / "pyproject.toml").exists():
        return CHECKOUT / "data"
    return platformdirs.user_data_path("taskapp")


def _database_url(text: str) -> str:
    if text and not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("an address such as postgresql://user:password@host/database is needed")
    return text


def _secret_keys(text: str) -> tuple[str, ...]:
    keys = tuple(_words(text))
    if (text and not keys) or any(len(key) < SECRET_KEY_LENGTH for key in keys):
        raise ValueError(
            f"each key needs {SECRET_KEY_LENGTH} characters or more, "
            "such as: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    if any(_is_well_known(key) for key in keys):
        raise ValueError("a well-known value can be guessed; make a random one")
    return keys


def _is_well_known(key: str) -> bool:
    rest = _WELL_KNOWN_WORDS.sub("", key.casefold())
    return len(set(key)) < 8 or len(rest) < len(key) / 2


def _split_url(text: str) -> SplitResult | None:
    """Split an address; None when it is none. What `urlsplit` says may quote a password."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    return None if port == 0 else parts


def _limit_storage(text: str) -> str:
    parts = _split_url(text)
    if text and (parts is None or parts.scheme not in {"redis", "rediss", "redis+unix"}):
        raise ValueError("an address such as redis://host:6379/0 is needed")
    return text


def _base_path(text: str) -> str:
    if (
        not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*/?", text)
        or "/./" in f"{text}/"
        or "/../" in f"{text}/"
    ):
        raise ValueError("a path such as / or /tasks-of-mine is needed")
    return text.rstrip("/")


def _origin(text: str) -> str:
    """Read the address of a site, and give it as browsers name it in `Origin`."""
    parts = _split_url(text)
    if parts is None or parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError(_ORIGIN_NEEDED)
    origin = f"{parts.scheme}://{parts.netloc}".lower()
    if "@" in origin or text.lower().rstrip("/") != origin:
        raise ValueError(_ORIGIN_NEEDED)
    return origin.removesuffix(_DEFAULT_PORTS[parts.scheme])


def _public_url(text: str) -> str:
    return _origin(text) if text else ""


def _origins(text: str) -> frozenset[str]:
    return frozenset(_origin(word) for word in _words(text))


@dataclass(frozen=True)
class Settings:
    """All settings, read and checked. Durations are in seconds, paths absolute."""

    host: str = _setting(
        "127.0.0.1", str, "address to listen on, or unix:/path/of/a/socket; systemd's socket wins"
    )
    port: int = _setting("8000", _whole_number(0, 65535), "port to listen on")
    data_dir: Path = _setting(
        "", _data_dir, "folder of the embedded database, the secret key and backups"
    )
    database_url: str = _setting(
        "",
        _database_url,
        "postgresql://... of a PostgreSQL 15 or later; empty: the embedded one",
        secret=True,
    )
    database_pool: int = _setting(
        "10", _whole_number(1, 500), "database connections of one process"
    )
    secret_key: tuple[str, ...] = _setting(
        "",
        _secret_keys,
        "signs cookies and tokens; several with commas, newest first; empty: made once and kept",
        secret=True,
    )
    session_idle: int = _setting("24h", _duration, "a session ends after this long without use")
    bcrypt_rounds: int = _setting(
        "12",
        _whole_number(4, 16),
        "cost of a hash; raising it re-hashes at the next login",
    )
    login_limit: RateLimitItem = _setting("5/15minute", _rate_limit, "failed logins of one address")
    registration: str = _setting(
        "open", _one_of("open", "closed"), "closed: only `user add` makes accounts"
    )
    register_limit: RateLimitItem = _setting(
        "20/hour", _rate_limit, "registrations from one address"
    )
    api_limit: RateLimitItem = _setting("100/15minute", _rate_limit, "API requests of one user")
    limit_storage: str = _setting(
        "",
        _limit_storage,
        "redis://... when several processes must share the counts; empty: in memory",
        secret=True,
    )
    trusted_proxies: tuple[Network, ...] = _setting(
        "", _networks, "addresses whose X-Forwarded-For and X-Forwarded-Proto are believed"
    )
    base_path: str = _setting("/", _base_path, "prefix of every path, when hosted below one")
    public_url: str = _setting("", _public_url, "https://... in production: Secure cookies, HSTS")
    cors_origins: frozenset[str] = _setting(
        "", _origins, "origins that may call the API from a browser"
    )
    log_format: str = _setting(
        "auto", _one_of("auto", "text", "json"), "auto: text on a terminal, JSON elsewhere"
    )
    log_level: str = _setting(
        "info", _one_of("debug", "info", "warning", "error"), "the least level that is logged"
    )
    metrics_allow: tuple[Network, ...] = _setting(
        "127.0.0.0/8,::1", _networks, "networks that may read /metrics"
    )
    texts: Mapping[str, str] = field(repr=False, kw_only=True)  # as they were set, by name

    @property
    def is_https(self) -> bool:
        """Tell whether people reach this server over https."""
        return self.public_url.startswith("https://")

    @property
    def uses_embedded_database(self) -> bool:
        """Tell whether the database is the one inside."""
        return not self.database_url


SETTINGS = [item for item in fields(Settings) if item.name != "texts"]


def variable(name: str) -> str:
    """Give the environment variable of a setting."""
    return PREFIX + name.upper()


def load_settings(environment: Mapping[str, str]) -> Settings:
    """Read all settings from environment variables.

    A secret may also stand in a file, named by the variable with `_FILE` behind its name.

    Raises:
        SettingsError: one or more are wrong; it lists all of them at once.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}
    texts: dict[str, str] = {}
    for item in SETTINGS:
        name = variable(item.name)
        try:
            texts[name] = _text(environment, name, item.metadata)
            values[item.name] = item.metadata["read"](texts[name])
        except (ValueError, OSError) as error:
            problems.append(f"{name}: {error}")
    problems += _unknown(environment)
    if problems:
        raise SettingsError(problems)
    return Settings(texts=texts, **values)


def _text(environment: Mapping[str, str], name: str, metadata: Mapping[str, Any]) -> str:
    path = environment.get(f"{name}_FILE", "") if metadata["secret"] else ""
    text = environment.get(name, "").strip()
    if path and text:
        raise ValueError(f"is set, and so is {name}_FILE; keep one of them")
    if path:
        text = _text_in(Path(path))
    return text or metadata["default"]


def _text_in(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} does not hold text") from error
    if not text:
        raise ValueError(f"{path} is empty")
    return text


def _unknown(environment: Mapping[str, str]) -> list[str]:
    known = {variable(item.name) for item in SETTINGS}
    known |= {f"{variable(item.name)}_FILE" for item in SETTINGS if item.metadata["secret"]}
    return [
        f"{name}: there is no such setting; `python server.py settings` lists them"
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in known
    ]


def describe_settings(settings: Settings) -> list[tuple[str, str, str]]:
    """List name, value and meaning of every setting, with the secrets masked."""
    rows = []
    for item in SETTINGS:
        text = settings.texts[variable(item.name)]
        if item.name == "data_dir":
            text = str(settings.data_dir)
        elif item.metadata["secret"] and text:
            text = MASK
        rows.append((variable(item.name), text, item.metadata["meaning"]))
    return rows


def load_secret_keys(settings: Settings) -> tuple[str, ...]:
    """Give the keys that sign, newest first; make one at the first start and keep it.

    Raises:
        SettingsError: the kept key cannot be read, made or trusted.
    """
    if settings.secret_key:
        return settings.secret_key
    path = settings.data_dir / "secret-key"
    try:
        _make_key(path)
        return _secret_keys(_text_in(path))
    except (OSError, ValueError) as error:
        raise SettingsError([f"The secret key in {path} cannot be used: {error}"]) from error


def _make_key(path: Path) -> None:
    """Write a new key, unless there is one, so that no other process sees half of it."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    draft.touch(mode=0o600, exist_ok=False)
    try:
        draft.write_text(secrets.token_urlsafe(48) + "\n", encoding="utf-8")
        path.hardlink_to(draft)
    except FileExistsError:
        return  # another process was first, and its key is as good
    finally:
        draft.unlink()
