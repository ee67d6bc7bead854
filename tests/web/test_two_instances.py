"""Instances on one host have their own cookies in one browser, whatever their ports and paths."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.page_client import PASSWORD, PageClient
from tests.support.server_process import server_process, wait_until

BASE_PATHS = ("", "", "/test")


@pytest.fixture(scope="module")
def addresses(database_url: str, short_folder: Path) -> Iterator[list[str]]:
    """Yield the addresses of instances with a port and a secret key of their own."""
    with ExitStack() as ends:
        servers = [
            ends.enter_context(
                server_process(
                    short_folder / f"instance-{number}",
                    settings={
                        "TASKAPP_DATABASE_URL": database_url,
                        "TASKAPP_BASE_PATH": base_path,
                    },
                )
            )
            for number, base_path in enumerate(BASE_PATHS)
        ]
        wait_until(lambda: all("taskapp is ready" in server.said for server in servers))
        yield [server.url for server in servers]


@pytest.fixture
def browser(http_client: Any, addresses: list[str]) -> list[PageClient]:
    """Return the tabs of one browser, one for each instance."""
    cookies: dict[str, str] = {}
    tabs = [PageClient(http_client, address) for address in addresses]
    for tab in tabs:
        tab.cookies = cookies
    return tabs


@pytest.mark.gen_test(timeout=120)
async def test_instances_on_one_host_do_not_end_each_others_sessions(
    browser: list[PageClient],
) -> None:
    pages = []
    for number, (tab, base_path) in enumerate(zip(browser, BASE_PATHS, strict=True)):
        email = f"somebody-{number}@example.com"
        await tab.open(f"{base_path}/register")
        await tab.submit("Create account", email=email, password=PASSWORD)
        await tab.open(f"{base_path}/login")
        await tab.submit("Dark" if number % 2 else "Light")
        page = await tab.submit("Log in", email=email, password=PASSWORD)
        assert f"Logged in as {email}" in page.text
        pages.append(page)
    for number, (tab, page) in enumerate(zip(browser, pages, strict=True)):
        tab.page = page  # from before the logins elsewhere
        after = await tab.submit("Add", title=f"Of {number}")
        assert after.titles == [f"Of {number}"]
        assert after.flash_message == "Task added."
        assert after.tags("html")[0]["data-theme"] == ("dark" if number % 2 else "light")
    first, *others = browser
    await first.submit("Log out")
    for number, tab in enumerate(others, 1):
        for path in ("/login", "/tasks", "/nowhere"):
            page = await tab.open(BASE_PATHS[number] + path)
            assert page.has_form("Log out")
        assert page.flash_message == ""
    assert not (await first.open("/nowhere")).has_form("Log out")
