"""The static files: what is sent, compressed and cached; the icons and the manifest."""

import gzip
import json
import re
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import brotli
import pytest
from tornado.httpclient import HTTPResponse

from handlers.rendering.static_assets import FILES, FOLDER, StaticFile, digest, list_files
from handlers.web.application import Application
from taskapp.services import Services
from tests.support.api_tools import with_settings
from tests.support.browser_fixtures import running_browser, running_server
from tests.support.page_client import PageClient

pytest_plugins = ["tests.support.page_fixtures"]
DECODERS: dict[str | None, Callable[[bytes], bytes]] = {
    "br": brotli.decompress,
    "gzip": gzip.decompress,
    None: bytes,
}
CODINGS = ["br", "gzip", "identity"]
YEAR = "public, max-age=31536000, immutable"
MINUTES = "public, max-age=300"
Fetch = Callable[..., Awaitable[HTTPResponse]]


@pytest.fixture
def fetch(http_client: Any, base_url: str, app: Application) -> Fetch:
    """Return a function that requests a path and returns the response undecoded."""

    async def ask(path: str, method: str = "GET", **headers: str) -> HTTPResponse:
        response: HTTPResponse = await http_client.fetch(
            base_url + path,
            method=method,
            headers={name.replace("_", "-"): text for name, text in headers.items()},
            decompress_response=False,
            raise_error=False,
        )
        return response

    return ask


def png_header(path: Path) -> tuple[int, int, int, int]:
    """Return a PNG's width, height, bit depth and colour type."""
    header: tuple[int, int, int, int] = struct.unpack(">IIBB", path.read_bytes()[16:26])
    return header


def assert_whole(name: str, content: bytes) -> None:
    """Assert that a file is sent as it is; a script may lack its comments, and white space."""
    expected = (FOLDER / name).read_bytes()
    if not name.endswith(".js"):
        assert content == expected
        return
    code = re.sub(rb"^ *//.*", b"", expected, flags=re.MULTILINE)
    assert b"".join(content.split()) == b"".join(code.split())
    assert len(content) < 0.9 * len(code)


# What is sent


@pytest.mark.gen_test
@pytest.mark.parametrize("name", sorted(FILES))
async def test_a_file_is_sent_whole_and_with_its_type(fetch: Fetch, name: str) -> None:
    types = {
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml; charset=utf-8",
        ".png": "image/png",
        ".txt": "text/plain; charset=utf-8",
        ".webmanifest": "application/manifest+json",
    }
    for accepted in CODINGS:
        response = await fetch(f"/static/{name}", Accept_Encoding=accepted)
        decode = DECODERS[response.headers.get("Content-Encoding")]
        assert response.code == 200
        assert_whole(name, decode(response.body))
        assert response.headers["Content-Type"] == types[Path(name).suffix]
        assert response.headers["Content-Length"] == str(len(response.body))
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert not {"Accept-Ranges", "Set-Cookie"} & set(response.headers)
        head = await fetch(f"/static/{name}", "HEAD", Accept_Encoding=accepted)
        assert (head.code, head.body) == (200, b"")
        varying = {"Date", "X-Request-Id"}
        assert [(name, text) for name, text in head.headers.get_all() if name not in varying] == [
            (name, text) for name, text in response.headers.get_all() if name not in varying
        ]


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_search_engines_find_their_rules(fetch: Fetch, method: str) -> None:
    response = await fetch("/robots.txt", method)
    assert (response.code, response.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert response.headers["Content-Length"] == str(len((FOLDER / "robots.txt").read_bytes()))


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "path",
    [
        *("none.css", "", "STYLE.CSS", "style.css/", "x/style.css", "./style.css", "style.css%00"),
        *("../server.py", "..%2fserver.py", "%2e%2e/server.py", "/etc/passwd", "..%5cserver.py"),
    ],
)
async def test_no_other_file_can_be_had(fetch: Fetch, path: str) -> None:
    response = await fetch(f"/static/{path}")
    assert (response.code, response.headers["Content-Type"]) == (404, "text/html; charset=UTF-8")
    assert b"Back to home" in response.body
    assert response.headers["Cache-Control"] == "no-store"


def test_hidden_files_folders_and_files_of_other_types_are_not_listed(tmp_path: Path) -> None:
    for name in [".hidden.css", ".css", "a.css", "a.css~", "a.py", "a", "b.svg"]:
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    assert set(list_files(tmp_path)) == {"a.css", "b.svg"}


@pytest.mark.gen_test
async def test_a_file_needs_neither_the_database_nor_a_session(
    visitor: PageClient, services: Services
) -> None:
    await visitor.sign_up("alice@example.com")
    await visitor.log_in("alice@example.com")
    await services.database.close()
    assert (await visitor.fetch("GET", "/static/style.css")).status == 200
    assert (await visitor.fetch("GET", "/static/none.css")).status == 404
    assert (await visitor.fetch("GET", "/tasks")).status == 503


@pytest.mark.gen_test
async def test_a_file_stays_as_it_was_when_it_was_first_requested(
    fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "passing.css"
    path.write_bytes(b"early")
    monkeypatch.setitem(FILES, path.name, StaticFile(path))
    path.write_bytes(b"first " * 99)
    named = digest(path.name)
    path.write_bytes(b"second " * 99)
    for accepted in CODINGS * 2:
        response = await fetch(f"/static/{path.name}?v={named}", Accept_Encoding=accepted)
        assert DECODERS[response.headers.get("Content-Encoding")](response.body) == b"first " * 99
        assert response.headers["Cache-Control"] == YEAR
        path.unlink(missing_ok=True)


# Compression


@pytest.mark.gen_test
async def test_text_is_compressed_and_what_would_not_get_smaller_is_not(fetch: Fetch) -> None:
    sizes = {}
    for accepted in CODINGS:
        response = await fetch("/static/style.css", Accept_Encoding=accepted)
        assert response.headers.get("Content-Encoding", "identity") == accepted
        assert response.headers["Vary"] == "Accept-Encoding"
        sizes[accepted] = len(response.body)
        for name in ["robots.txt", "icon-180.png"]:
            response = await fetch(f"/static/{name}", Accept_Encoding=accepted)
            assert "Content-Encoding" not in response.headers
            assert response.headers["Vary"] == "Accept-Encoding"
    assert sizes["br"] < sizes["gzip"] < sizes["identity"] / 2


# Caching


@pytest.mark.gen_test
async def test_a_file_that_the_browser_has_is_not_sent_again(fetch: Fetch) -> None:
    tags: set[str] = set()
    for accepted in CODINGS:
        first = await fetch("/static/style.css", Accept_Encoding=accepted)
        tag = first.headers["ETag"]
        for known in [tag, f"W/{tag}", f'"x", {tag}', "*"]:
            again = await fetch("/static/style.css", Accept_Encoding=accepted, If_None_Match=known)
            assert (again.code, again.body) == (304, b"")
            for name in ["ETag", "Cache-Control", "Vary"]:
                assert again.headers[name] == first.headers[name]
            assert not {"Content-Encoding", "Content-Type"} & set(again.headers)
        for other in [*tags, '"x"', tag.strip('"')]:
            response = await fetch(
                "/static/style.css", Accept_Encoding=accepted, If_None_Match=other
            )
            assert response.code == 200
        tags.add(tag)
    assert len(tags) == len(CODINGS)
    assert all(re.fullmatch('"[0-9a-f]{16}-[a-z]+"', tag) for tag in tags)


@pytest.mark.gen_test
async def test_only_the_address_of_the_present_content_is_kept_for_a_year(fetch: Fetch) -> None:
    present = digest("style.css")
    assert re.fullmatch("[0-9a-f]{16}", present)
    for query, kept in [
        (f"?v={present}", YEAR),
        ("", MINUTES),
        ("?v=", MINUTES),
        ("?v=0123456789abcdef", MINUTES),
        (f"?v={present.upper()}x", MINUTES),
        (f"?w={present}", MINUTES),
        ("?v=%ff", MINUTES),
    ]:
        response = await fetch(f"/static/style.css{query}")
        assert (response.code, response.headers["Cache-Control"]) == (200, kept)


@pytest.mark.gen_test
@with_settings(BASE_PATH="/my/tasks.d")
async def test_the_files_that_a_page_names_are_kept_for_a_year_below_a_path_too(
    visitor: PageClient, fetch: Fetch
) -> None:
    page = await visitor.open("/my/tasks.d/login")
    links = {tag["rel"]: tag["href"] for tag in page.tags("link")}
    assert {"stylesheet", "icon"} <= set(links)
    for address in links.values():
        assert address.startswith("/my/tasks.d/static/")
        assert (await fetch(address)).headers["Cache-Control"] == YEAR
    assert (await fetch("/my/tasks.d/robots.txt")).code == 200
    assert (await fetch("/static/style.css")).code == 404


# Icons and the manifest


def test_the_manifest_names_icons_that_exist_with_these_types_and_sizes() -> None:
    manifest = json.loads((FOLDER / "manifest.webmanifest").read_text(encoding="utf-8"))
    icons = manifest["icons"]
    assert [icon.get("purpose", "any") for icon in icons] == ["any", "maskable"]
    for icon in icons:
        assert icon["type"] == FILES[icon["src"]].content_type.partition(";")[0]
        path = FOLDER / icon["src"]
        if path.suffix == ".png":
            width, height, *_ = png_header(path)
            assert icon["sizes"] == f"{width}x{height}"
        else:
            assert icon["sizes"] == "any"
            assert 'viewBox="0 0 32 32"' in path.read_text(encoding="utf-8")


@pytest.mark.gen_test
async def test_every_page_fetches_the_manifest_with_credentials(fetch: Fetch) -> None:
    for address in ("/login", "/register", "/nothing", "/api/docs"):
        [link] = re.findall(b'<link rel="manifest"[^>]*>', (await fetch(address)).body)
        assert b'crossorigin="use-credentials"' in link


def test_the_icon_of_a_home_screen_is_small_and_has_no_transparent_parts() -> None:
    path = FOLDER / "icon-180.png"
    width, height, _, colour_type = png_header(path)
    assert (width, height) == (180, 180)
    assert colour_type == 2  # without an alpha channel (PNG, 11.2.1)
    assert path.stat().st_size < 4096


def test_chromium_reads_what_it_installs_by_below_a_path(
    database_url: str, short_folder: Path
) -> None:
    settings = {"TASKAPP_DATABASE_URL": database_url, "TASKAPP_BASE_PATH": "/my/tasks"}
    with running_server(short_folder / "manifest", **settings) as url, running_browser() as browser:
        page = browser.new_page()
        page.goto(f"{url}/login")
        session = page.context.new_cdp_session(page)
        response = session.send("Page.getAppManifest")
        assert (response["url"].partition("?")[0], response["errors"]) == (
            f"{url}/static/manifest.webmanifest",
            [],
        )
        manifest = response["manifest"]
        assert (manifest["startUrl"], manifest["scope"]) == (f"{url}/tasks", f"{url}/")
        assert (manifest["name"], manifest["display"]) == ("taskapp", "kStandalone")
        shared = manifest["shareTarget"]
        assert (shared["action"], shared["method"]) == (f"{url}/tasks", "kGet")
        for icon in manifest["icons"]:
            content_type = page.request.get(icon["url"]).headers["content-type"]
            assert content_type.partition(";")[0] == icon["type"]
