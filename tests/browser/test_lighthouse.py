"""Lighthouse, as a phone on a slow connection, gives full scores."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser_fixtures import CHECKOUT, CHROMIUM, CHROMIUM_OPTIONS
from tests.support.page_site import MANY, NOBODY, Site, running_site

NEEDED = {"accessibility": 100, "best-practices": 100, "seo": 100}
NEEDED_PERFORMANCE = 99
# Other work on the machine lowers the performance and nothing raises it, so the best run counts.
ATTEMPTS = 5
PAGES = {"login": NOBODY, "register": NOBODY, "tasks": MANY, "edit": MANY}

Report = dict[str, Any]

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def site(database_url: str, short_folder: Path) -> Iterator[Site]:
    with running_site(short_folder / "lighthouse", database_url) as site:
        yield site


@pytest.fixture(scope="module")
def reports(site: Site) -> dict[str, Report]:
    return run_lighthouse(site, *PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_lighthouse_is_content_with_a_page(
    site: Site, reports: dict[str, Report], name: str
) -> None:
    report = reports[name]
    assert {category: score(report, category) for category in NEEDED} == NEEDED, [
        failure for category in NEEDED for failure in failures(report, category)
    ]


@pytest.mark.parametrize("name", PAGES)
def test_lighthouse_finds_a_page_fast(site: Site, reports: dict[str, Report], name: str) -> None:
    report = reports[name]
    for _ in range(ATTEMPTS - 1):
        if score(report, "performance") < NEEDED_PERFORMANCE:
            report = run_lighthouse(site, name)[name]
    assert score(report, "performance") >= NEEDED_PERFORMANCE, failures(report, "performance")


def run_lighthouse(site: Site, *names: str) -> dict[str, Report]:
    """Return Lighthouse's reports by name of page."""
    pages = [describe(site, name) for name in names]
    asked = {
        "chromium": CHROMIUM,
        "options": CHROMIUM_OPTIONS,
        "categories": [*NEEDED, "performance"],
        "pages": pages,
    }
    done = subprocess.run(
        ["node", "lighthouse.mjs"],
        cwd=CHECKOUT / "tests" / "browser",
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    reports = dict(zip(names, json.loads(done.stdout), strict=True))
    for page, report in zip(pages, reports.values(), strict=True):
        assert "runtimeError" not in report, report["runtimeError"]
        assert report["finalDisplayedUrl"] == page["address"]
    return reports


def describe(site: Site, name: str) -> dict[str, Any]:
    """Return the URL and cookies of a page, for lighthouse.mjs."""
    owner = site.owner(PAGES[name])
    path = f"/tasks/{next(iter(owner.tasks.values()))}/edit" if name == "edit" else f"/{name}"
    cookies = "; ".join(f"{cookie['name']}={cookie['value']}" for cookie in owner.cookies)
    return {
        "address": site.address() + path,
        "headers": {"Cookie": cookies} if cookies else {},
    }


def score(report: Report, category: str) -> int:
    """Return a score from 0 to 100."""
    return round(100 * (report["categories"][category]["score"] or 0))


def failures(report: Report, category: str) -> list[str]:
    """Return the audits that lower a score."""
    names = [part["id"] for part in report["categories"][category]["auditRefs"] if part["weight"]]
    audits = [report["audits"][name] for name in names]
    return [
        f"{audit['id']}: {audit['title']} {audit.get('displayValue', '')}"
        f" {json.dumps(audit.get('details', {}).get('items', []))[:500]}"
        for audit in audits
        if audit["score"] is not None and audit["score"] < 1
    ]
