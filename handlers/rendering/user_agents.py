"""The names of browsers, systems and programs in User-Agent headers."""

import re

from taskapp.core.messages import Message

# The first match counts: most browsers name others as well (RFC 9110, 10.1.5).
_BROWSERS = (
    ("Edge", "Edg(e|A|iOS)?/"),
    ("Opera", "OPR/"),
    ("Vivaldi", "Vivaldi/"),
    ("Samsung Internet", "SamsungBrowser/"),
    ("Firefox", "(Firefox|FxiOS)/"),
    ("Chromium", "Chromium/"),
    ("Chrome", "(Chrome|CriOS)/"),
    ("Safari", "Version/.* Safari/"),
)
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("ChromeOS", "CrOS"),
    ("macOS", "Mac OS X|Macintosh"),
    ("Linux", "Linux|X11"),
)
_PROGRAM = re.compile(r"(?!Mozilla/)([A-Za-z][\w.+-]{0,39})(/|$| )", re.ASCII)


def describe_device(user_agent: str) -> Message:
    """Return a short name for a browser and its system, for a program, or for an unknown device."""
    browser = _find_name(_BROWSERS, user_agent)
    system = _find_name(_SYSTEMS, user_agent)
    if browser and system:
        return Message("%(browser)s on %(system)s", browser=browser, system=system)
    if browser:
        return Message("%(browser)s on an unknown system", browser=browser)
    program = _PROGRAM.match(user_agent)
    if program:
        return Message("%(name)s (API client)", name=program[1])
    if system:
        return Message("Unknown browser on %(system)s", system=system)
    return Message("Unknown device")


def _find_name(names: tuple[tuple[str, str], ...], user_agent: str) -> str | None:
    return next((name for name, pattern in names if re.search(pattern, user_agent)), None)
