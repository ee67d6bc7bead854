"""A client cannot choose the address that limits count, or gain access by a header."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskapp.core.client_address import Network, client_address, is_in, limit_key, site_key

PROXIES: tuple[Network, ...] = (
    ip_network("127.0.0.1"),
    ip_network("10.0.0.0/8"),
    ip_network("fd00::/8"),
    "unix",
)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("::ffff:127.0.0.1", True),  # the same, seen by a socket of both kinds
        ("127.0.0.2", False),
        ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("fd00::1", True),
        ("fe80::1%eth0", False),
        ("2001:db8::1", False),
        ("unix", True),
        ("", False),
        ("10.0.0", False),
        ("10.0.0.1:80", False),
        ("localhost", False),
    ],
)
def test_an_address_is_in_a_network_whatever_its_spelling(address: str, expected: bool) -> None:
    assert is_in(address, PROXIES) is expected
    assert is_in(address, ()) is False
    assert is_in(address, (ip_network("0.0.0.0/0"), ip_network("::/0"))) is not (
        address == "unix" or not _is_address(address)
    )


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # a stranger writes what he likes
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"),  # 1.2.3.4 is the client's word
        ("127.0.0.1", "127.0.0.1, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "198.51.100.1, 10.1.1.1", "198.51.100.1"),  # two proxies of ours
        ("127.0.0.1", "6.6.6.6,198.51.100.1,10.1.1.1,10.2.2.2", "198.51.100.1"),
        ("127.0.0.1", "10.1.1.1, 10.2.2.2", "10.1.1.1"),  # a client inside
        ("127.0.0.1", " 198.51.100.1 ", "198.51.100.1"),
        ("127.0.0.1", "198.51.100.1,", "127.0.0.1"),  # nonsense in the last place: nobody knows
        ("127.0.0.1", "198.51.100.1, unknown", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1, unix", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1, <script>, 10.1.1.1", "10.1.1.1"),
        ("127.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("127.0.0.1", '"198.51.100.1"', "198.51.100.1"),
        ("127.0.0.1", '"198.51.100.1:4711"', "198.51.100.1"),
        ("127.0.0.1", "6.6.6.6:1, 198.51.100.1:65535 , 10.1.1.1:80", "198.51.100.1"),
        ("127.0.0.1", "[2001:db8::1]", "2001:db8::1"),
        ("127.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
        ("127.0.0.1", '"[2001:db8::1]:443"', "2001:db8::1"),
        ("127.0.0.1", "[2001:db8::1]:443, [fd00::2]:80", "2001:db8::1"),
        ("127.0.0.1", "[::ffff:198.51.100.1]:80", "::ffff:198.51.100.1"),
        ("127.0.0.1", "2001:db8::1:443", "2001:db8::1:443"),  # an address: there is no telling
        ("127.0.0.1", "198.51.100.1:port", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1:123456", "127.0.0.1"),
        ("127.0.0.1", '"198.51.100.1', "127.0.0.1"),
        ("127.0.0.1", "[2001:db8::1", "127.0.0.1"),
        ("127.0.0.1", "[[2001:db8::1]]", "127.0.0.1"),
        ("127.0.0.1", "[2001:db8::1]443", "127.0.0.1"),
        ("127.0.0.1", "unknown:80", "127.0.0.1"),
        ("127.0.0.1", "unix:80", "127.0.0.1"),
        ("127.0.0.1", "for=198.51.100.1", "127.0.0.1"),  # that is Forwarded, another header
        ("::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("fd00::1", "2001:db8::1, fd00::2", "2001:db8::1"),
        ("unix", "198.51.100.1", "198.51.100.1"),
        ("unix", "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        ("unix", "", "unix"),
    ],
)
def test_only_trusted_proxies_are_believed(peer: str, forwarded_for: str, expected: str) -> None:
    assert client_address(peer, forwarded_for, PROXIES) == expected
    assert client_address(peer, forwarded_for, ()) == peer


addresses = st.ip_addresses().map(str)


@given(client=addresses, written=st.text() | st.lists(addresses).map(", ".join))
def test_what_a_client_writes_never_changes_its_address(client: str, written: str) -> None:
    """A trusted proxy appends its peer; everything before it may be forged by the client."""
    if not is_in(client, PROXIES):
        assert client_address("127.0.0.1", f"{written}, {client}", PROXIES) == client
        assert client_address(client, written, PROXIES) == client


@given(client=st.ip_addresses(), port=st.integers(0, 65535), quote=st.sampled_from(["", '"']))
def test_a_port_changes_no_address(
    client: IPv4Address | IPv6Address, port: int, quote: str
) -> None:
    bare = f"[{client}]" if client.version == 6 else str(client)
    for written in (bare, f"{bare}:{port}"):
        found = client_address("127.0.0.1", f"{quote}{written}{quote}", PROXIES)
        assert found == str(client)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("198.51.100.1", "198.51.100.1"),
        ("::ffff:198.51.100.1", "198.51.100.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("64:ff9b::c633:6401", "198.51.100.1"),  # an IPv4 client behind NAT64
        ("64:ff9b:1::c633:6401", "64:ff9b:1::/64"),
        ("unix", "unix"),
    ],
)
def test_a_limit_counts_an_ipv6_subscriber_once(address: str, expected: str) -> None:
    assert limit_key(address) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("198.51.100.1", "198.51.100.1"),
        ("::ffff:198.51.100.1", "198.51.100.1"),
        ("64:ff9b::c633:6401", "198.51.100.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("2001:DB8:1:FFFF::", "2001:db8:1::/48"),
        ("2001:db8:2:2::", "2001:db8:2::/48"),
        ("unix", "unix"),
    ],
)
def test_a_site_of_ipv6_is_a_48(address: str, expected: str) -> None:
    assert site_key(address) == expected


@given(network=st.ip_addresses(v=6), host=st.integers(0, 2**64 - 1))
def test_no_address_of_a_subscriber_is_counted_apart(network: object, host: int) -> None:
    first = int(ip_address(str(network))) >> 64 << 64
    if str(IPv6Address(first)) not in {"::", "64:ff9b::"}:  # forms of IPv4 addresses
        assert limit_key(str(ip_address(first | host))) == limit_key(str(ip_address(first)))
