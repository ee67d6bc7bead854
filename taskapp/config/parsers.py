"""How the text of a setting is read; a ValueError says what is needed instead."""

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import platformdirs
from limits import RateLimitItem, parse_many

from taskapp.config.installation import HOME, IS_CHECKOUT
from taskapp.core.client_address import UNIX_SOCKET, Network

SECRET_KEY_LENGTH = 32  # characters, at least
# What stands in examples; nothing that is hard to guess is made of these words.
_WELL_KNOWN_WORDS = re.compile(
    "secret|password|change|default|insecure|example|please|cookie|token|generate|random|value|"
    "your|here|todo|own|key|0123456789|abcdefghijklmnopqrstuvwxyz|[-_.: ]"
)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_ORIGIN_NEEDED = "an address such as https://tasks.example.com is needed"


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Make a reader of a whole number from `low` to `high`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high} is needed")
        return int(text)

    return read


def one_of(*choices: str) -> Callable[[str], str]:
    """Make a reader of one of these words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"one of {', '.join(choices)} is needed")
        return text

    return read


def duration(text: str) -> int:
    """Read a duration and give its seconds."""
    match = re.fullmatch(r"([1-9][0-9]{0,6})(s|m|h|d)", text)
    if match is None:
        raise ValueError("a number and a unit is needed, such as 45m, 24h or 7d")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def duration_or_off(text: str) -> int:
    """Read a duration and give its seconds; 0 for "off"."""
    if text == "off":
        return 0
    try:
        return duration(text)
    except ValueError as error:
        raise ValueError(f"{error}, or off") from error


def rate_limit(text: str) -> RateLimitItem:
    """Read how much a limit allows."""
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


def networks(text: str) -> tuple[Network, ...]:
    """Read addresses and networks."""
    networks: list[Network] = []
    for word in _words(text):
        try:
            networks.append(UNIX_SOCKET if word == UNIX_SOCKET else ipaddress.ip_network(word))
        except ValueError as error:
            raise ValueError(
                "addresses or networks are needed, such as 127.0.0.1, 10.0.0.0/8"
            ) from error
    return tuple(networks)


def path(text: str) -> Path | None:
    """Read the path of a file or folder, if there is one."""
    try:
        return Path(text).expanduser().absolute() if text else None
    except RuntimeError as error:
        raise ValueError("the home folder is not known; write the path without ~") from error


def data_dir(text: str) -> Path:
    """Read a folder, or find the one that belongs to this set-up."""
    if folder := path(text):
        return folder
    if IS_CHECKOUT:
        return HOME / "data"
    return platformdirs.user_data_path("taskapp")


def database_url(text: str) -> str:
    """Read the address of a PostgreSQL."""
    if text and not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("an address such as postgresql://user:password@host/database is needed")
    return text


def secret_keys(text: str) -> tuple[str, ...]:
    """Read keys, and refuse those that can be guessed."""
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


def limit_storage(text: str) -> str:
    """Read the address of a Redis."""
    parts = _split_url(text)
    if text and (parts is None or parts.scheme not in {"redis", "rediss", "redis+unix"}):
        raise ValueError("an address such as redis://host:6379/0 is needed")
    return text


def base_path(text: str) -> str:
    """Read a path, and give it without its last slash."""
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


def public_url(text: str) -> str:
    """Read the address by which people reach the site."""
    return _origin(text) if text else ""


def origins(text: str) -> frozenset[str]:
    """Read the origins of other sites."""
    return frozenset(_origin(word) for word in _words(text))


def text_in(path: Path) -> str:
    """Read the text of a file."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} does not hold text") from error
    if not text:
        raise ValueError(f"{path} is empty")
    return text
