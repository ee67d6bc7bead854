"""Checks settings: whether they fit each other, and are safe on the public internet."""

import ipaddress
from urllib.parse import urlsplit

from taskapp.config.parsers import UNIX_PREFIX
from taskapp.config.settings import Settings
from taskapp.core.client_address import UNIX_SOCKET, Network, is_in
from taskapp.doctor.check_results import CheckResult, Level

_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))
MIN_BCRYPT_ROUNDS = 10  # with fewer, guessing the password of a stolen hash is too cheap


def check_address(settings: Settings) -> CheckResult:
    """Check whether passwords and cookies can be read in transit."""
    subject = "address"
    fix = "Put an HTTPS proxy in front, and set TASKAPP_PUBLIC_URL to its https://... address"
    if settings.is_https:
        text = f"public at {settings.public_url}: Secure cookies and HSTS are on"
        return CheckResult(Level.OK, subject, text)
    if settings.public_url and not _is_loopback(urlsplit(settings.public_url).hostname or ""):
        text = f"{settings.public_url} is not https: passwords can be read in transit"
        return CheckResult(Level.WARNING, subject, text, f"{fix}.")
    if not _is_local(settings.host):
        text = f"{settings.host} is open to the network without https"
        return CheckResult(
            Level.WARNING, subject, text, f"{fix}, or set TASKAPP_HOST to 127.0.0.1."
        )
    return CheckResult(Level.OK, subject, f"{settings.host}: reachable only from this machine")


def check_proxies(settings: Settings) -> CheckResult:
    """Check whether exactly the right proxies are trusted."""
    subject = "proxies"
    trusted = settings.trusted_proxies
    if any(_is_any_address(network) for network in trusted):
        text = "TASKAPP_TRUSTED_PROXIES contains every address: anyone can spoof theirs"
        return CheckResult(Level.PROBLEM, subject, text, "List only the addresses of your proxies.")
    if settings.is_https and not _trusts_its_proxy(settings):
        text = "the HTTPS proxy is not trusted: rate limits treat all clients as one"
        fix = f"Set TASKAPP_TRUSTED_PROXIES to its address, such as {_likely_proxy(settings)}."
        return CheckResult(Level.WARNING, subject, text, fix)
    if trusted and not settings.public_url:
        text = (
            "some are trusted, but without TASKAPP_PUBLIC_URL cookies are not Secure, and forms "
            "are refused if the proxy changes Host"
        )
        fix = "Set TASKAPP_PUBLIC_URL to the address that people use, best one with https."
        return CheckResult(Level.WARNING, subject, text, fix)
    names = ", ".join(map(str, trusted))
    if not names and not settings.public_url:
        text = "none trusted; behind a proxy that changes Host, set TASKAPP_PUBLIC_URL"
        return CheckResult(Level.OK, subject, text)
    return CheckResult(Level.OK, subject, f"trusted: {names}" if names else "none trusted")


def check_origins(settings: Settings) -> CheckResult:
    """Check which other sites may call the API from a browser."""
    subject = "origins"
    origins = sorted(settings.cors_origins)
    unsafe = [
        origin
        for origin in origins
        if origin.startswith("http://") and not _is_loopback(urlsplit(origin).hostname or "")
    ]
    if unsafe:
        text = f"{', '.join(unsafe)} is not https: it can be altered in transit to call the API"
        return CheckResult(Level.WARNING, subject, text, "Use https in TASKAPP_CORS_ORIGINS.")
    text = f"{', '.join(origins)} may call the API" if origins else "no other site calls the API"
    return CheckResult(Level.OK, subject, text)


def check_metrics(settings: Settings) -> CheckResult:
    """Check who may read the metrics."""
    if any(_is_any_address(network) for network in settings.metrics_allow):
        fix = "List only your monitoring networks in TASKAPP_METRICS_ALLOW."
        return CheckResult(Level.WARNING, "metrics", "anyone may read /metrics", fix)
    names = ", ".join(map(str, settings.metrics_allow)) or "nobody"
    return CheckResult(Level.OK, "metrics", f"readable by {names}")


def check_passwords(settings: Settings) -> CheckResult:
    """Check whether password hashes are expensive to guess."""
    rounds = settings.bcrypt_rounds
    if rounds < MIN_BCRYPT_ROUNDS:
        fix = f"Set TASKAPP_BCRYPT_ROUNDS to 12, or at least {MIN_BCRYPT_ROUNDS}."
        return CheckResult(Level.WARNING, "passwords", f"bcrypt cost {rounds} is too low", fix)
    return CheckResult(Level.OK, "passwords", f"bcrypt cost is {rounds}")


def check_registration(settings: Settings) -> CheckResult:
    """Check who may create an account."""
    if settings.registration == "closed":
        return CheckResult(Level.OK, "registration", "closed: `user add` creates accounts")
    if settings.is_https or not _is_local(settings.host):
        text = "open: anyone who can reach it can create an account"
        fix = "Set TASKAPP_REGISTRATION to closed if this is not intended."
        return CheckResult(Level.INFO, "registration", text, fix)
    return CheckResult(Level.OK, "registration", "open")


def _is_loopback(host: str) -> bool:
    return is_in(host, _LOOPBACK) or host == "localhost" or host.endswith(".localhost")


def _is_local(host: str) -> bool:
    return host.startswith(UNIX_PREFIX) or _is_loopback(host)


def _is_any_address(network: Network) -> bool:
    return not isinstance(network, str) and network.prefixlen == 0


def _trusts_its_proxy(settings: Settings) -> bool:
    """Return whether a proxy is trusted: the local one, or any if it may be on another machine."""
    if _is_local(settings.host):
        return is_in(_likely_proxy(settings), settings.trusted_proxies)
    return bool(settings.trusted_proxies)


def _likely_proxy(settings: Settings) -> str:
    if settings.host.startswith(UNIX_PREFIX):
        return UNIX_SOCKET
    return "::1" if ":" in settings.host else "127.0.0.1"
