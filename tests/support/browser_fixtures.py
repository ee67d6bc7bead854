"""Fixtures with real browsers, and a real server in its own process."""

import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.environment import CHEAP_AND_UNLIMITED, inherited_environment
from tests.support.server_process import LONG_ENOUGH

CHECKOUT = Path(__file__).resolve().parents[2]
CHROMIUM = "/usr/bin/chromium-headless-shell"
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
FIREFOX = "/usr/bin/firefox-esr"
FIREFOX_PREFERENCES: dict[str, str | float | bool] = {
    "ui.prefersReducedMotion": 1,
    "intl.accept_languages": "en-GB",
}
TIMEOUT = 1000 * LONG_ENOUGH  # milliseconds
PASSWORD = "SecurePass123!"
SERVER_SETTINGS = {
    "TASKAPP_PORT": "0",
    **CHEAP_AND_UNLIMITED,
    "TASKAPP_ACCOUNT_LOGIN_LIMIT": "1000000/minute",
    "TASKAPP_LOG_LEVEL": "error",
}


@dataclass(frozen=True)
class Account:
    """A new account for each test, so that tests do not interfere."""

    email: str
    password: str = PASSWORD


def new_account(name: str) -> Account:
    return Account(f"{name}-{secrets.token_hex(6)}@example.com")


@contextmanager
def running_server(data_dir: Path, **settings: str) -> Iterator[str]:
    """Run `server.py serve`, and yield its URL."""
    with subprocess.Popen(
        [sys.executable, "server.py"],
        cwd=CHECKOUT,
        env=inherited_environment()
        | SERVER_SETTINGS
        | {"TASKAPP_DATA_DIR": str(data_dir)}
        | settings,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            yield _read_address(server)
        finally:
            server.terminate()
            server.communicate()


def _read_address(server: "subprocess.Popen[str]") -> str:
    assert server.stdout
    for line in server.stdout:
        if line.startswith("taskapp is ready at "):
            return line.removeprefix("taskapp is ready at ").strip()
    raise AssertionError("the server ended before it was ready")


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run Chromium, headless."""
    expect.set_options(timeout=TIMEOUT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def running_firefox() -> Iterator[Browser]:
    """Run Debian's Firefox, headless, over WebDriver BiDi."""
    expect.set_options(timeout=TIMEOUT)
    with sync_playwright() as playwright:
        browser = playwright.firefox.launch(
            channel="moz-firefox",
            executable_path=FIREFOX,
            firefox_user_prefs=FIREFOX_PREFERENCES,
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def firefox_with_profile(folder: Path, address: str) -> Iterator[Page]:
    """Run Firefox with a profile that stays in a folder, and yield a page."""
    with sync_playwright() as playwright:
        context = playwright.firefox.launch_persistent_context(
            folder,
            channel="moz-firefox",
            executable_path=FIREFOX,
            firefox_user_prefs=FIREFOX_PREFERENCES,
            base_url=address,
        )
        context.set_default_timeout(TIMEOUT)
        try:
            yield context.new_page()
        finally:
            context.close()


BROWSERS = {"Chromium": running_browser, "Firefox": running_firefox}
