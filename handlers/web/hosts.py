"""The host names under which this site is requested, against DNS rebinding."""

import ipaddress
import re
import socket
from functools import lru_cache
from urllib.parse import urlsplit

from taskapp.config.settings import Settings

_LOCAL_NAME = re.compile(r"[a-z0-9._-]+\.localhost")  # leads to loopback (RFC 6761, 6.3)
MAX_HOST_LENGTH = 253 + len(":65535")  # characters, of a name (RFC 1035, 2.3.4) and a port


class Hosts:
    """The names of this site: of the settings, of this machine, and of loopback.

    An IP address is always one of them. A page that made its own name point to this server, to read
    its responses, cannot send another name than that.
    """

    def __init__(self, settings: Settings) -> None:
        machine = socket.gethostname().lower()
        public = urlsplit(settings.public_url).hostname
        self._names = {*settings.allowed_hosts, "localhost", machine, f"{machine}.local"}
        if public:
            self._names.add(public.removesuffix("."))
        # Clients send the same few ones again and again.
        self.includes = lru_cache(maxsize=64)(self._includes)

    def _includes(self, header: str) -> bool:
        """Return whether a `Host` header names this site; its port does not matter."""
        if len(header) > MAX_HOST_LENGTH:
            return False
        name = _without_port(header.lower()).removesuffix(".")
        return name in self._names or bool(_LOCAL_NAME.fullmatch(name)) or _is_address(name)


def normalize_origin(origin: str) -> str:
    """Return an origin in lower case, without the port if it is that of the scheme (RFC 6454)."""
    scheme, _, host = origin.lower().partition("://")
    default = {"http": ":80", "https": ":443"}.get(scheme)
    return f"{scheme}://{host.removesuffix(default) if default else host}"


def _without_port(host: str) -> str:
    return re.sub(r":[0-9]*$", "", host, count=1, flags=re.ASCII)


def _is_address(name: str) -> bool:
    """Return whether it is an IPv4 address, or one of IPv6 in brackets, without a zone."""
    is_bracketed = name.startswith("[") and name.endswith("]")
    try:
        address = ipaddress.ip_address(name[1:-1] if is_bracketed else name)
    except ValueError:
        return False
    return is_bracketed == (address.version == 6) and "%" not in name
