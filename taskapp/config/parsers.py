"""Parsers of setting values; they raise ValueError with a message that says what is needed."""

import ipaddress
import os
import re
import select
import shlex
from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import platformdirs
from limits import RateLimitItem, parse_many

from taskapp.config.installation import HOME, IS_CHECKOUT
from taskapp.core.client_address import UNIX_SOCKET, Network

ANY_ADDRESS = "*"  # of both IPv4 and IPv6
UNIX_PREFIX = "unix:"  # of a listening address that is the path of a socket
MIN_SECRET_KEY_LENGTH = 32  # characters
PIPE_TIMEOUT = 30.0  # seconds for a secret to come through a pipe
_MAX_TEXT = 65_536  # characters of a file with a secret
# Words of keys in examples; a key made of these is easily guessed.
_WELL_KNOWN_WORDS = re.compile(
    "secret|password|change|default|insecure|example|please|cookie|token|generate|random|value|"
    "your|here|todo|own|key|0123456789|abcdefghijklmnopqrstuvwxyz|[-_.: ]"
)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_ORIGIN_NEEDED = "must be a URL such as https://tasks.example.com"


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of a whole number from `low` to `high`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,15}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be an integer from {low} to {high}")
        return int(text)

    return read


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser of one of these words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return read


def duration(text: str) -> int:
    """Return a duration in seconds."""
    match = re.fullmatch(r"([1-9][0-9]{0,6})(s|m|h|d)", text)
    if match is None:
        raise ValueError("must be a number and a unit, such as 45m, 24h or 7d")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def duration_or_off(text: str) -> int:
    """Return a duration in seconds, or 0 for "off"."""
    if text == "off":
        return 0
    try:
        return duration(text)
    except ValueError as error:
        raise ValueError(f"{error}, or off") from error


def command_line(text: str) -> tuple[str, ...]:
    """Return a program and its arguments; quotes are those of a shell, and nothing else is."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError("has a quote or a backslash that nothing follows") from error


def rate_limit(text: str) -> RateLimitItem:
    """Return a rate limit, such as 5/15minute."""
    needed = "must be a number and a period, such as 5/15minute"
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
    """Return addresses and networks, which are separated by commas."""
    networks: list[Network] = []
    for word in _words(text):
        try:
            networks.append(UNIX_SOCKET if word == UNIX_SOCKET else ipaddress.ip_network(word))
        except ValueError as error:
            raise ValueError(
                "must be addresses or networks, such as 127.0.0.1, 10.0.0.0/8"
            ) from error
    return tuple(networks)


def path(text: str) -> Path | None:
    """Return an absolute path, or None for an empty text."""
    try:
        return Path(text).expanduser().absolute() if text else None
    except RuntimeError as error:
        raise ValueError("cannot determine the home folder; use a path without ~") from error


def listening_address(text: str) -> str:
    """Return a host name or an IP address, or `unix:` with the absolute path of a socket."""
    if not text.startswith(UNIX_PREFIX):
        return text[1:-1] if text.startswith("[") and text.endswith("]") else text
    socket_path = path(text.removeprefix(UNIX_PREFIX))
    if socket_path is None:
        raise ValueError(f"must be followed by a path, such as {UNIX_PREFIX}/run/taskapp/socket")
    return f"{UNIX_PREFIX}{socket_path}"


def data_dir(text: str) -> Path:
    """Return an absolute path, or for an empty text the default folder of this installation."""
    if folder := path(text):
        return folder
    if IS_CHECKOUT:
        return HOME / "data"
    try:
        return platformdirs.user_data_path("taskapp").expanduser()
    except RuntimeError as error:  # HOME is not set, and the user is not in /etc/passwd
        raise ValueError("cannot determine the home folder; set this to a path") from error


def database_url(text: str) -> str:
    """Return the address of a PostgreSQL database unchanged: a URL, or words such as host=..."""
    if text and not text.startswith(("postgresql://", "postgres://")) and not _is_dsn(text):
        raise ValueError("must be a URL such as postgresql://user:password@host/database")
    return text


def _is_dsn(text: str) -> bool:
    return re.match(r"\s*[a-z_]+\s*=", text) is not None


def secret_keys(text: str) -> tuple[str, ...]:
    """Return keys, which are separated by commas; none may be easily guessed."""
    keys = tuple(_words(text))
    if (text and not keys) or any(len(key) < MIN_SECRET_KEY_LENGTH for key in keys):
        raise ValueError(
            f"each key must have at least {MIN_SECRET_KEY_LENGTH} characters; "
            "generate one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    if any(_is_well_known(key) for key in keys):
        raise ValueError("this value is too easy to guess; generate a random one")
    return keys


def _is_well_known(key: str) -> bool:
    rest = _WELL_KNOWN_WORDS.sub("", key.casefold())
    return len(set(key)) < 8 or len(rest) < len(key) / 2


def _split_url(text: str) -> SplitResult | None:
    """Return the parts of a URL, or None: the error of `urlsplit` may quote a password."""
    try:
        parts = urlsplit(text)
        port = parts.port
        if "[" in parts.netloc:
            ipaddress.IPv6Address(parts.hostname or "")  # Python checks it from 3.11.4 on
    except ValueError:
        return None
    return None if port == 0 else parts


def limit_storage(text: str) -> str:
    """Return the URL of a Redis server, or of its Sentinels, unchanged."""
    if re.fullmatch(r"redis\+sentinel://(?:[^@/]*@)?[^@/:,]+:\d+(?:,[^@/:,]+:\d+)*/[\w.-]+", text):
        return text
    parts = _split_url(text)
    if text and (parts is None or parts.scheme not in {"redis", "rediss", "redis+unix"}):
        raise ValueError(
            "must be a URL such as redis://host:6379/0, or redis+sentinel://host:26379,host2:26379/name"
        )
    return text


def base_path(text: str) -> str:
    """Return the path of a URL without its trailing slash."""
    if (
        not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*/?", text)
        or "/./" in f"{text}/"
        or "/../" in f"{text}/"
    ):
        raise ValueError("must be a path such as / or /tasks-of-mine")
    return text.rstrip("/")


def _origin(text: str) -> str:
    """Return the URL of a site in the form that browsers send in `Origin`."""
    if not text.isascii():
        raise ValueError(
            "must have the ASCII form of its name, such as https://xn--bcher-kva.example"
        )
    parts = _split_url(text)
    if parts is None or parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError(_ORIGIN_NEEDED)
    origin = f"{parts.scheme}://{parts.netloc}".lower()
    if "@" in origin or text.lower().rstrip("/") != origin:
        raise ValueError(_ORIGIN_NEEDED)
    return origin.removesuffix(_DEFAULT_PORTS[parts.scheme])


def public_url(text: str) -> str:
    """Return the origin by which users reach the site, or an empty text."""
    return _origin(text) if text else ""


def client_url(text: str) -> str:
    """Return the address of a server without its trailing slash, or an empty text."""
    parts = _split_url(text)
    if text and (
        parts is None
        or parts.scheme not in _DEFAULT_PORTS
        or not parts.hostname
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
    ):
        raise ValueError(_ORIGIN_NEEDED)
    return text.rstrip("/")


def collector_url(text: str) -> str:
    """Return the address of an OpenTelemetry collector unchanged, or an empty text."""
    parts = _split_url(text)
    if text and (parts is None or parts.scheme not in _DEFAULT_PORTS or not parts.hostname):
        raise ValueError("must be a URL such as http://127.0.0.1:4318")
    if text and parts and "@" in parts.netloc:
        raise ValueError("has a password, which belongs in OTEL_EXPORTER_OTLP_HEADERS")
    return text


def client_token(text: str) -> str:
    """Return an API token unchanged, or an empty text."""
    if not re.fullmatch(r"[!-~]*", text):
        raise ValueError("must be an API token, as the account page shows it")
    return text


def origins(text: str) -> frozenset[str]:
    """Return the origins of other sites, which are separated by commas."""
    return frozenset(_origin(word) for word in _words(text))


def host_names(text: str) -> frozenset[str]:
    """Return host names without ports, which are separated by commas."""
    names = frozenset(word.lower() for word in _words(text))
    if not all(re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", name) for name in names):
        raise ValueError("must be host names without ports, such as tasks.example.com, nas.lan")
    return names


def _open_when_written(path: str, flags: int) -> int:
    """Open a file, or a pipe such as bash's `<(pass show key)`, which has a writer.

    Raises ValueError if nobody writes to a pipe.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if not select.select([descriptor], [], [], PIPE_TIMEOUT)[0]:
        os.close(descriptor)
        raise ValueError(f"{path} is a pipe that nobody writes to")
    os.set_blocking(descriptor, True)
    return descriptor


def read_text_file(path: Path, *, is_private: bool = False) -> str:
    """Return the text of a file without outer white space.

    Raises ValueError if it is empty, very long, a pipe that nobody writes to, or private and
    readable by others.
    """
    if is_private and path.stat().st_mode & 0o077:
        raise ValueError(f"{path} is open to other users; run: chmod 600 {path}")
    try:
        with open(path, encoding="utf-8", opener=_open_when_written) as file:
            text = file.read(_MAX_TEXT + 1).strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not valid UTF-8") from error
    if not text:
        raise ValueError(f"{path} is empty")
    if len(text) > _MAX_TEXT:
        raise ValueError(f"{path} is longer than {_MAX_TEXT:,} characters")
    return text
