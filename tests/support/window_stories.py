"""What most stories in a window of any browser begin with."""

from tests.support.browser_fixtures import Account, new_account
from tests.support.windows import Window

NEW_TITLE = "#new-title"
EMAIL_FIELD = "document.querySelector('[name=email]')"
ROWS = "document.querySelectorAll('.task').length"


def sign_up(window: Window) -> Account:
    """Register and log in by the forms, as a new user; the address is filled in by then."""
    account = new_account("alice")
    window.open("/register")
    window.fill("[name=email]", account.email)
    send_password(window, account)
    window.wait_for(f"location.pathname === '/login' && {EMAIL_FIELD}.value === '{account.email}'")
    send_password(window, account)
    window.wait_for("location.pathname === '/tasks'")
    return account


def send_password(window: Window, account: Account) -> None:
    window.fill("[name=password]", account.password)
    window.click("main form button:not([type=button])")


def add(window: Window, *titles: str) -> None:
    """Type titles into the list, each with Enter."""
    for number, title in enumerate(titles, start=1):
        window.fill(NEW_TITLE, title)
        window.press("Enter")
        window.wait_for(f"{ROWS} === {number}")
