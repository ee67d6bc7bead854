"""A session names its browser and system, or its program, in a few words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.rendering.user_agents import describe_device

MOZILLA = "Mozilla/5.0"
WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
CHROME = f"{WEBKIT} Chrome/140.0.0.0 Safari/537.36"
WINDOWS = "(Windows NT 10.0; Win64; x64)"
APPLE = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
GECKO = "rv:140.0) Gecko/20100101"
LINUX = "(X11; Linux x86_64)"
MAC = "(Macintosh; Intel Mac OS X 10_15_7)"
ANDROID = "(Linux; Android 10; K)"
IPHONE = "(iPhone; CPU iPhone OS 18_5 like Mac OS X)"


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        (f"{MOZILLA} (X11; Linux x86_64; {GECKO} Firefox/140.0", "Firefox on Linux"),
        (f"{MOZILLA} (Android 15; Mobile; {GECKO} Firefox/140.0", "Firefox on Android"),
        (f"{MOZILLA} {IPHONE} {APPLE} FxiOS/140.0 Mobile/15E148", "Firefox on iPhone"),
        (f"{MOZILLA} {WINDOWS} {CHROME}", "Chrome on Windows"),
        (f"{MOZILLA} {ANDROID} {CHROME}", "Chrome on Android"),
        (f"{MOZILLA} (X11; CrOS x86_64 14541.0.0) {CHROME}", "Chrome on ChromeOS"),
        (f"{MOZILLA} {WINDOWS} {CHROME} Edg/140.0.0.0", "Edge on Windows"),
        (f"{MOZILLA} {LINUX} {CHROME} OPR/120.0.0.0", "Opera on Linux"),
        (f"{MOZILLA} {LINUX} {WEBKIT} HeadlessChrome/140.0.0.0", "Chrome on Linux"),
        (f"{MOZILLA} {MAC} {APPLE} Version/18.5 Safari/605.1.15", "Safari on macOS"),
        (f"{MOZILLA} {IPHONE} {APPLE} Version/18.5 Mobile/15E148 Safari/604.1", "Safari on iPhone"),
        (f"{MOZILLA} (SomethingNew) {CHROME}", "Chrome on an unknown system"),
        (f"{MOZILLA} {LINUX} NetSurf/3.11", "Unknown browser on Linux"),
        ("curl/8.5.0", "curl (API client)"),
        ("python-requests/2.32.3", "python-requests (API client)"),
        ("Wget/1.21.3 (linux-gnu)", "Wget (API client)"),
        ("node", "node (API client)"),
        ("", "Unknown device"),
        ("?", "Unknown device"),
        (MOZILLA, "Unknown device"),
        ("<script>alert(1)</script>", "Unknown device"),
        ("x" * 256, "Unknown device"),
    ],
)
def test_a_device_has_a_short_name(user_agent: str, words: str) -> None:
    assert describe_device(user_agent) == words


@given(st.text(max_size=256))
def test_any_user_agent_has_a_short_and_harmless_name(user_agent: str) -> None:
    words = describe_device(user_agent)
    assert 0 < len(words) <= 60
    assert words.isprintable()
    assert not set(words) & set("<>&\"'%")
