"""What a browser remembers of forms, and offers to whoever uses it next.

It is in a file of its own: Playwright runs once at a time in a process.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.support.browser_fixtures import firefox_with_profile, running_server
from tests.support.window_stories import add, sign_up
from tests.support.windows import PlaywrightWindow

# A field that nothing keeps out of the history of forms
CONTROL = """(form => {
    const control = document.createElement("input");
    control.name = "control";
    form.prepend(control);
})(document.querySelector("#token-name").form)"""


def test_firefox_offers_no_text_of_one_person_to_the_next(
    database_url: str, short_folder: Path, tmp_path: Path
) -> None:
    with (
        running_server(short_folder / "history", TASKAPP_DATABASE_URL=database_url) as address,
        firefox_with_profile(tmp_path, address) as page,
    ):
        window = PlaywrightWindow(page)
        account = sign_up(window)
        add(window, "Call the clinic")
        page.goto("/account")
        window.click("#tokens ~ details summary")
        window.evaluate(CONTROL)
        for field, text in (("[name=control]", "Kept"), ("#token-name", "For the clinic")):
            window.click(field)
            page.keyboard.type(text)  # Firefox keeps only what somebody typed
        window.fill("#token-password", account.password)
        window.press("Enter")
        window.wait_for("document.querySelector('.whole-token')")
    with closing(sqlite3.connect(tmp_path / "formhistory.sqlite")) as history:
        kept = history.execute("SELECT fieldname, value FROM moz_formhistory").fetchall()
    assert kept == [("control", "Kept")]
