"""Who is at the other end: addresses, networks, and which proxies are believed."""

import ipaddress
from collections.abc import Sequence
from typing import Literal

Network = ipaddress.IPv4Network | ipaddress.IPv6Network | Literal["unix"]
UNIX_SOCKET: Literal["unix"] = "unix"  # the peer of a Unix socket has no address


def is_in(address: str, networks: Sequence[Network]) -> bool:
    """Tell whether an address, or "unix" for a Unix socket, is in one of the networks."""
    if address == UNIX_SOCKET:
        return UNIX_SOCKET in networks
    parsed = _parse(address)
    return parsed is not None and any(
        not isinstance(network, str) and parsed in network for network in networks
    )


def client_address(peer: str, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """Give the address of the client, looking through the proxies that are trusted.

    Each proxy appends the address that it saw to `X-Forwarded-For`, so the list is read from
    its end, and only for as long as a trusted proxy speaks: what stands before that was written
    by the client, who may write anything.
    """
    address = peer
    hops = [hop.strip() for hop in forwarded_for.split(",")] if forwarded_for else []
    while hops and is_in(address, trusted):
        hop = hops.pop()
        if _parse(hop) is None:
            break
        address = hop
    return address


def limit_key(address: str) -> str:
    """Give what a limit counts by: the address, or the /64 of an IPv6 one.

    One subscriber is given a whole /64 (RFC 6177), so a single IPv6 address is free to change.
    """
    parsed = _parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed or address)


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    # A socket for both kinds shows an IPv4 address as ::ffff:127.0.0.1.
    return getattr(parsed, "ipv4_mapped", None) or parsed
