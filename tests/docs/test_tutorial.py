"""docs/tutorial.md: every step is executed as written."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, expect

from tests.support.browser_fixtures import TIMEOUT, running_browser
from tests.support.document_blocks import read_blocks, shows
from tests.support.document_shell import Terminal, read_commands, terminal_in_a_copy
from tests.support.server_process import CHECKOUT

TUTORIAL = (CHECKOUT / "docs" / "tutorial.md").read_text(encoding="utf-8")
PRESSED = re.findall(r"\*\*([^*]+)\*\*", TUTORIAL)  # labels to press, in order


def test_the_tutorial_leads_from_nothing_to_a_restored_task() -> None:
    commands = [each for block in read_blocks(TUTORIAL) for each in read_commands(block)]
    steps = iter(commands)
    with terminal_in_a_copy() as terminal, opened_page() as page:
        command, shown = next(steps)
        with terminal.serving(command) as said:
            assert shows(shown, terminal.as_written(said))
            Reader(page).begin(f"http://127.0.0.1:{terminal.port}")
            command, _ = next(steps)
            terminal.run(command, typed=Reader(page).make_a_token())
            while "date -u" not in command:
                command, shown = next(steps)
                do(terminal, command, shown)
            page.goto(f"http://127.0.0.1:{terminal.port}/tasks")
            expect(page.get_by_role("main")).to_contain_text("Call the dentist")
            Reader(page).delete("Water the plants")
        do(terminal, *next(steps))
        assert [*steps] == []
        with terminal.serving():
            Reader(page).log_in(f"http://127.0.0.1:{terminal.port}/login")
            expect(page.locator("main li", has_text="Water the plants")).to_have_count(1)


def do(terminal: Terminal, command: str, shown: str) -> None:
    said = terminal.as_written(terminal.run(command))
    assert shows(shown, said), f"{command}: {said}"


@contextmanager
def opened_page() -> Iterator[Page]:
    with running_browser() as browser:
        page = browser.new_page()
        page.set_default_timeout(TIMEOUT)
        yield page


class Reader:
    """Presses and types what the tutorial says."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def press(self, name: str, role: str = "button") -> None:
        """Press an element that the tutorial names."""
        assert name in PRESSED
        self.page.get_by_role(role, name=name, exact=True).first.click()  # type: ignore[arg-type]  # one of its literals

    def fill(self, label: str, text: str) -> None:
        assert f"`{text}`" in TUTORIAL
        self.page.get_by_label(label, exact=True).fill(text)

    def begin(self, address: str) -> None:
        """Register, log in, add two tasks, and complete the first."""
        self.page.goto(address)
        self.press("Register", "link")
        for button in ("Create account", "Log in"):
            self.enter(button)
        for title in ("Buy milk", "Water the plants"):
            self.fill("New task", title)
            self.page.keyboard.press("Enter")
            expect(self.page.locator("main li").first).to_contain_text(title)
        self.page.get_by_role("checkbox", name="Buy milk").click()
        expect(self.page.get_by_role("checkbox", name="Buy milk")).to_be_checked()

    def enter(self, button: str) -> None:
        self.fill("Email", "alice@example.com")
        self.fill("Password", "SecurePass123!")
        self.press(button)

    def log_in(self, address: str) -> None:
        self.page.goto(address)
        self.enter("Log in")

    def make_a_token(self) -> str:
        """Create a token, and return it as a user copies it."""
        self.press("Account", "link")
        self.page.get_by_text("New token", exact=True).click()
        self.fill("Name", "First script")
        self.fill("Your password", "SecurePass123!")
        self.press("Create token")
        return self.page.locator("main code").first.inner_text()

    def delete(self, title: str) -> None:
        """Delete a task from the list, and wait until it disappears."""
        task = self.page.locator("main li", has_text=title)
        task.get_by_text("Delete").click()
        self.press("Delete")
        expect(task).to_have_count(0)
