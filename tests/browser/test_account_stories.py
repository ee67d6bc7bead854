"""Stories about accounts, each once with scripts and once without."""

import re

from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.support.browser_fixtures import Account
from tests.support.stories import flash_message, link, log_in, path_of

pytest_plugins = ["tests.support.story_fixtures"]
NEW_PASSWORD = "another horse, another battery"


def open_account(tasks: Page) -> None:
    link(tasks, "Account").click()
    expect(tasks.get_by_role("heading", name="Account", exact=True)).to_be_visible()


def sessions(page: Page) -> Locator:
    """The sessions of the page, each with its place and use."""
    return page.get_by_role("region", name="Sessions").get_by_role("listitem")


def test_a_forgotten_session_is_ended_from_another_browser(
    tasks: Page, browser: Browser, address: str, account: Account
) -> None:
    forgotten = browser.new_context(base_url=address, user_agent="Mozilla/5.0 (iPad) FxiOS/140.0")
    there = forgotten.new_page()
    log_in(there, account)
    open_account(tasks)
    expect(sessions(tasks)).to_have_count(2)
    link(tasks, "Log out: Firefox on iPad").click()
    expect(tasks.get_by_text("Firefox on iPad")).to_be_visible()
    password = tasks.get_by_label("Password", exact=True)
    expect(password).to_be_focused()
    password.fill("not mine")
    password.press("Enter")
    expect(password).to_have_accessible_description("Incorrect password")
    password.fill(account.password)
    password.press("Enter")
    expect(flash_message(tasks)).to_have_text("Session logged out.")
    expect(sessions(tasks)).to_have_count(1)
    expect(sessions(tasks)).to_contain_text("current session")
    there.goto("/tasks")
    assert path_of(there) == "/login?next=/tasks"
    forgotten.close()


def test_a_token_is_made_used_and_revoked(
    tasks: Page, context: BrowserContext, account: Account
) -> None:
    open_account(tasks)
    tasks.get_by_text("New token").click()
    tasks.get_by_label("Name").fill("Backup script")
    tasks.get_by_label("30 days").check()
    tasks.get_by_label("Read-only access").check()
    tasks.get_by_label("Your password").fill(account.password)
    tasks.get_by_role("button", name="Create token").click()
    token = tasks.locator("#token").inner_text()
    assert re.fullmatch(r"taskapp_\S{92}", token)
    assert token not in tasks.url
    headers = {"Authorization": f"Bearer {token}"}
    assert context.request.get("/api/tasks", headers=headers).status == 200
    assert context.request.post("/api/tasks", data={"title": "x"}, headers=headers).status == 403
    link(tasks, "Done").click()
    expect(tasks.get_by_text("Read-only ·")).to_be_visible()
    link(tasks, "Revoke: Backup script").click()
    tasks.get_by_label("Password", exact=True).fill(account.password)
    tasks.get_by_role("button", name="Revoke token").click()
    expect(flash_message(tasks)).to_have_text("Token revoked.")
    assert context.request.get("/api/tasks", headers=headers).status == 401


def test_a_new_password_is_typed_and_counts_from_then_on(tasks: Page, account: Account) -> None:
    open_account(tasks)
    tasks.get_by_text("Change password").click()
    tasks.get_by_label("Current password").fill("not mine")
    tasks.get_by_label("New password").fill(NEW_PASSWORD)
    tasks.get_by_role("button", name="Update password").click()
    current = tasks.get_by_label("Current password")
    expect(current).to_have_accessible_description("Incorrect password")
    expect(current).to_be_focused()
    current.fill(account.password)
    tasks.get_by_label("New password").fill(NEW_PASSWORD)
    tasks.get_by_role("button", name="Update password").click()
    expect(flash_message(tasks)).to_have_text("Password changed.")
    tasks.get_by_role("button", name="Log out").click()
    log_in(tasks, Account(account.email, NEW_PASSWORD))


def test_an_account_is_deleted_after_a_question_and_the_password(
    tasks: Page, account: Account
) -> None:
    open_account(tasks)
    link(tasks, "Delete my account").click()
    expect(tasks.get_by_role("heading", name="Delete your account?")).to_be_visible()
    tasks.get_by_label("Password", exact=True).fill(account.password)
    tasks.get_by_role("button", name="Delete my account").click()
    expect(flash_message(tasks)).to_have_text("Your account and all its data have been deleted.")
    assert path_of(tasks) == "/login"
