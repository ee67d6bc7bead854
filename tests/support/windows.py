"""A window of any browser: what people do in it and see, by CSS selectors and JavaScript.

Playwright drives Chromium and Firefox; Selenium drives WebKit, because Playwright has only its own.
"""

import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Error, Page
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.client_config import ClientConfig
from selenium.webdriver.remote.remote_connection import RemoteConnection
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.webkitgtk.options import Options
from selenium.webdriver.webkitgtk.service import Service
from urllib3.exceptions import HTTPError

from tests.support.browser_fixtures import TIMEOUT
from tests.support.server_process import LONG_ENOUGH, wait_until

WEBKIT_DRIVER = "/usr/bin/WebKitWebDriver"
WEBKIT_BROWSERS = "*/webkit2gtk-4.*/MiniBrowser"  # below /usr/lib
WEBKIT_TIMEOUT = int(LONG_ENOUGH / 4)  # seconds; without it, a hanging WebKit is waited for forever
WEBKIT_STARTS = 4
KEYS = {"Enter": Keys.ENTER, "Escape": Keys.ESCAPE, "Tab": Keys.TAB}


class Window(ABC):
    """A window with one page."""

    @abstractmethod
    def open(self, path: str) -> None:
        """Open a path of the site, and wait until it has loaded."""

    @abstractmethod
    def back(self) -> None:
        """Go back to the page before."""

    @abstractmethod
    def click(self, selector: str) -> None:
        """Click the first such element as soon as it can be clicked."""

    @abstractmethod
    def fill(self, selector: str, text: str) -> None:
        """Put a text into a field, in place of what it has."""

    @abstractmethod
    def press(self, key: str) -> None:
        """Press a key where the focus is: a character, or a name of KEYS."""

    @abstractmethod
    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""

    @abstractmethod
    def resize(self, width: int) -> None:
        """Make the window as wide as so many pixels, or as narrow as it can be."""

    def wait_for(self, expression: str) -> None:
        """Wait until a JavaScript expression is true, also over page loads."""
        wait_until(lambda: self._is_true(expression))

    def _is_true(self, expression: str) -> bool:
        try:
            return bool(self.evaluate(expression))
        except (Error, WebDriverException, HTTPError):  # the page is just being replaced
            return False


class PlaywrightWindow(Window):
    """A window of Chromium or Firefox."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def open(self, path: str) -> None:
        self._page.goto(path)

    def back(self) -> None:
        self._page.go_back()

    def click(self, selector: str) -> None:
        self._page.locator(selector).first.click()

    def fill(self, selector: str, text: str) -> None:
        self._page.locator(selector).first.fill(text)

    def press(self, key: str) -> None:
        self._page.keyboard.press(key)

    def evaluate(self, expression: str) -> Any:
        return self._page.evaluate(expression)

    def resize(self, width: int) -> None:
        self._page.set_viewport_size({"width": width, "height": 800})


class WebKitWindow(Window):
    """A window of WebKitGTK's MiniBrowser."""

    def __init__(self, driver: WebDriver, address: str) -> None:
        self._driver = driver
        self._address = address

    def open(self, path: str) -> None:
        self._driver.get(self._address + path)

    def back(self) -> None:
        self._driver.back()

    def click(self, selector: str) -> None:
        wait_until(lambda: self._has_done(lambda: self._find(selector).click()))

    def fill(self, selector: str, text: str) -> None:
        wait_until(lambda: self._has_done(lambda: self._find(selector).clear()))
        self._find(selector).send_keys(text)

    def _has_done(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except WebDriverException:  # the element is not there yet, or is just moving
            return False
        return True

    def press(self, key: str) -> None:
        ActionChains(self._driver).send_keys(KEYS.get(key, key)).perform()

    def evaluate(self, expression: str) -> Any:
        return self._driver.execute_script(f"return {expression}")

    def resize(self, width: int) -> None:
        self._driver.set_window_size(width, 900)

    def _find(self, selector: str) -> WebElement:
        element = self._driver.find_element(By.CSS_SELECTOR, selector)
        # The driver scrolls no further than to the edge of the window.
        self._driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        return element


@contextmanager
def playwright_window(
    browser: Browser, address: str, prepare: Callable[[Page], None] = lambda _: None
) -> Iterator[Window]:
    """Open a window with a new profile; an error of a script fails the test."""
    context = browser.new_context(base_url=address, reduced_motion="reduce")
    context.set_default_timeout(TIMEOUT)
    page = context.new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    prepare(page)
    yield PlaywrightWindow(page)
    context.close()
    assert failures == [], failures


@contextmanager
def running_display() -> Iterator[str]:
    """Run an X server without a screen, and yield its name: WebKitGTK has no headless mode."""
    with subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-screen", "0", "1400x1000x24", "-nolisten", "tcp"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            assert server.stdout
            yield f":{server.stdout.readline().strip()}"
        finally:
            server.terminate()


@contextmanager
def running_webkit(display: str, address: str) -> Iterator[Window]:
    """Run WebKit with a new profile on a display, and yield its window."""
    with ExitStack() as ends:
        yield WebKitWindow(started_webkit(display, ends), address)


def started_webkit(display: str, ends: ExitStack) -> WebDriver:
    """Return a new WebKit; a busy machine makes it hang at its start, and it is started again."""
    options = Options()
    options.binary_location = str(next(Path("/usr/lib").glob(WEBKIT_BROWSERS)))
    options.add_argument("--automation")
    for _ in range(WEBKIT_STARTS):
        with ExitStack() as attempt, suppress(HTTPError):
            url = attempt.enter_context(running_webkit_driver(display))
            connection = RemoteConnection(client_config=ClientConfig(url, timeout=WEBKIT_TIMEOUT))
            driver = WebDriver(connection, options=options)
            attempt.push(suppress(HTTPError))  # the processes are ended in any case
            attempt.callback(driver.quit)
            ends.push(attempt.pop_all())
            return driver
    raise AssertionError(f"WebKit did not start, {WEBKIT_STARTS} times")


@contextmanager
def running_webkit_driver(display: str) -> Iterator[str]:
    """Run what drives WebKit, and yield its URL; end it with all that it has started."""
    environment = os.environ | {"DISPLAY": display, "LANG": "en_GB.UTF-8"}
    options = {"start_new_session": True}
    service = Service(WEBKIT_DRIVER, env=environment, popen_kw=options)
    service.start()
    group = service.process.pid
    try:
        yield service.service_url
    finally:
        service.stop()
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
