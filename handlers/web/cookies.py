"""The names and values of our cookies, and the cookies of a request (ADR 0045)."""

import re
from collections.abc import Sequence

from taskapp.config.settings import Settings

# Characters; browsers keep 4,096, and a proxy takes few more in all headers of a response.
MAX_VALUE_LENGTH = 1_500
_VALUE = re.compile(rf"[A-Za-z0-9._~-]{{1,{MAX_VALUE_LENGTH}}}", re.ASCII)


def cookie_prefixes(settings: Settings, instance_marks: Sequence[str]) -> tuple[str, ...]:
    """Return the prefix of the names of our cookies, then the earlier ones.

    Cookies know no ports and few paths, so a name has the base path and an identifier of the
    instance: one for each secret key, the newest first. Behind https the prefix `__Host-` proves
    that this host has set the cookie (RFC 6265bis).
    """
    base = settings.base_path.replace("/", "-")
    start = f"{'__Host-' if settings.is_https else ''}taskapp{base}-"
    return (*(f"{start}{mark}-" for mark in instance_marks), start)  # until 0.1.0 without it


def is_cookie_value(text: str) -> bool:
    """Return whether a cookie of ours may have this value: what we sign, and words.

    Anybody can send another one, and one under an earlier name is sent back under the new one.
    """
    return _VALUE.fullmatch(text) is not None


def read_cookies(header: str) -> dict[str, str]:
    r"""Return the cookies of a `Cookie` header whose names came once, as they were sent.

    Only a space or a tab separates a cookie from the one before it, and a name is compared exactly.
    So "\xa0__Host-taskapp-session", which a sister domain can set because browsers see no prefix in
    it, is not "__Host-taskapp-session". Of a name that came twice, nobody knows which is ours.
    """
    cookies: dict[str, str] = {}
    repeated: set[str] = set()
    for pair in header.split(";"):
        name, _, value = pair.lstrip(" \t").partition("=")
        if name in cookies:
            repeated.add(name)
        cookies[name] = value.rstrip(" \t")
    return {name: value for name, value in cookies.items() if name not in repeated}
