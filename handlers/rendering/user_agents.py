"""What a session is used with, in words, from what browsers and programs call themselves."""

import re

from taskapp.core.messages import Message

# The first that fits: most call themselves by the names of others as well (RFC 9110, 10.1.5).
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
    """Describe a browser and its system, or a program, shortly; plainly if it is none we know."""
    browser = _first(_BROWSERS, user_agent)
    system = _first(_SYSTEMS, user_agent)
    if browser and system:
        return Message("%(browser)s on %(system)s", browser=browser, system=system)
    if browser:
        return Message("%(browser)s on an unknown system", browser=browser)
    program = _PROGRAM.match(user_agent)
    if program:
        return Message("%(name)s (a program)", name=program[1])
    if system:
        return Message("Unknown browser on %(system)s", system=system)
    return Message("Unknown device")


def _first(names: tuple[tuple[str, str], ...], user_agent: str) -> str | None:
    return next((name for name, pattern in names if re.search(pattern, user_agent)), None)
