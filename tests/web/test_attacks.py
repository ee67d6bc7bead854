"""Attacks of the usual kinds, as tables: each changes nothing and reveals nothing."""

import base64
import json
import re
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from handlers.pages.base import PageHandler
from handlers.routes import ROUTES
from taskapp.services import Services
from tests.conftest import PASSWORD
from tests.support.api_tools import NO_TASK, assert_problem
from tests.support.clients import ApiClient
from tests.support.database_fixtures import execute
from tests.support.page_client import ALICE, BOB, PageClient, cookie_name, stored, titles

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("app")]

SQL = [
    "'",
    '"',
    "\\",
    "' OR '1'='1",
    "1; DROP TABLE tasks; --",
    "x' UNION SELECT email, password_hash FROM users --",
    "$$; SELECT pg_sleep(5); $$",
    "' || pg_sleep(5) --",
    "%(user_id)s",
    "%s",
    "%",
    "{0}",
    "${7*7}",
    "{{7*7}}",
    "{% debug %}",
]
NUMBERS = [
    "-1",
    "0",
    "101",
    "2147483648",
    "9223372036854775808",
    "1" + "0" * 400,
    "1e9",
    "1.0",
    "0x10",
    "+5",
    "NaN",
    "Infinity",
    "1 ",
    " 1",
    "1_0",
    "\u0663",
    "\uff11",
    "",
    "true",
    "null",
    "[1]",
]
IDS = [
    "0",
    "-1",
    "2147483648",
    NO_TASK + "0",
    NO_TASK[:-1],
    NO_TASK.replace("-", ""),
    "{" + NO_TASK + "}",
    "urn:uuid:" + NO_TASK,
    "../" + NO_TASK,
    NO_TASK + "/..",
    "%2e%2e",
    "*",
    "null",
    "\u0660" * 8 + NO_TASK[8:],
    "g" + NO_TASK[1:],
]

NOWHERE = [
    "/.git/config",
    "/.git/HEAD",
    "/.env",
    "/.hg/",
    "/.svn/entries",
    "/.DS_Store",
    "/.well-known/../.git/config",
    "/static/.git/config",
    "/static/../.env",
    "/static/%2e%2e/.env",
    "/static/..%2f.env",
    "/static/%2e%2e%2fserver.py",
    "/static/....//server.py",
    "/static//etc/passwd",
    "/static/%2fetc%2fpasswd",
    "/static/style.css/",
    "/static/style.css%00.png",
    "/static/",
    "/static",
    "/templates/base.html",
    "/server.py",
    "/data/secret-key",
    "/backup",
    "/admin",
    "/debug",
    "/phpinfo.php",
    "/api/",
    "/api/users",
    "/crossdomain.xml",
    "/server-status",
]


async def counts(services: Services) -> tuple[int, ...]:
    """Count what there is in each table."""
    url = services.settings.database_url
    (row,) = execute(
        url,
        "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM tasks),"
        " (SELECT count(*) FROM sessions), (SELECT max(updated_at)::text FROM tasks)",
    )
    return row


# Injection


async def test_quotes_in_every_parameter_of_the_api_are_only_text(
    alice: ApiClient, bob: ApiClient
) -> None:
    await bob.add_task("Bob's secret")
    task = await alice.add_task()
    for text in SQL:
        for name in ["status", "limit", "after", "sort", "order", "id", text]:
            response = await alice.get("/api/tasks?" + urlencode({name: text}))
            assert response.status in {200, 400}
            assert b"secret" not in response.body
        for method in ["GET", "PUT", "DELETE"]:
            response = await alice.send(method, f"/api/tasks/{quote(text, safe='')}", raw=b"{}")
            assert response.status in {400, 404}
        made = await alice.post("/api/tasks", {"title": text, "description": text})
        assert (made.json["title"], made.json["description"]) == (text, text)
        await alice.put(f"/api/tasks/{task['id']}", {"title": text, "status": text})
        response = await alice.post("/api/auth/login", {"email": text, "password": text})
        assert response.status in {400, 401}
        for header in ["Idempotency-Key", "If-Match", "If-None-Match", "X-Request-ID"]:
            response = await alice.put(
                f"/api/tasks/{task['id']}", {"title": "x"}, headers={header: f'"{text}"'}
            )
            assert response.status in {200, 400, 412}
    assert await titles(bob) == ["Bob's secret"]
    assert len(await titles(alice)) == len(SQL) + 1


async def test_quotes_in_every_field_of_the_pages_are_only_text(
    mine: PageClient, alice: ApiClient
) -> None:
    for text in SQL:
        await mine.open("/tasks")
        page = await mine.submit("Add", title=text, description=text)
        assert page.rows[0].title == text
        for name in ["status", "after", "next", "theme"]:
            page = await mine.open("/tasks?" + urlencode({name: text}))
            assert page.status in {200, 400}
            assert ">49<" not in page.html
    assert await titles(alice) == SQL[::-1]


async def test_a_number_at_its_limits_is_refused(alice: ApiClient) -> None:
    for text in NUMBERS:
        assert_problem(await alice.get("/api/tasks?" + urlencode({"limit": text})), 400)


async def test_an_id_that_is_none_is_not_found(alice: ApiClient, mine: PageClient) -> None:
    for text in IDS:
        encoded = quote(text, safe="")
        for method in ["GET", "PUT", "PATCH", "DELETE"]:
            assert_problem(await alice.send(method, f"/api/tasks/{encoded}", raw=b"{}"), 404)
        for name in ["edit", "delete"]:
            assert (await mine.open(f"/tasks/{encoded}/{name}")).status == 404, text


# What no client may reach


async def test_files_of_the_server_and_paths_that_scanners_try_are_not_there(
    api: ApiClient,
) -> None:
    for path in NOWHERE:
        assert (await api.get(path)).status == 404, path


async def test_a_new_database_has_no_account(services: Services) -> None:
    assert execute(services.settings.database_url, "SELECT count(*) FROM users") == [(0,)]


# What a request may change


async def test_a_get_changes_nothing_on_any_route(
    mine: PageClient, alice: ApiClient, task: dict[str, str], services: Services
) -> None:
    before = await counts(services)
    fields = urlencode(
        {"title": "x", "titles": "x", "status": "completed", "until": "2099-01-01T00:00:00Z"}
        | {"theme": "dark", "email": "x@example.com", "password": PASSWORD}
        | (await mine.open("/tasks")).forms[0].fields
    )
    for route, _ in ROUTES:
        path = route.replace(":id", task["id"]).replace(":path", "x")
        for method in ["GET", "HEAD", "OPTIONS"]:
            for query in ["", f"?{fields}"]:
                await mine.fetch(method, path + query)
                await alice.send(method, path + query)
                await alice.send(method, path + query, headers={"X-HTTP-Method-Override": "DELETE"})
    assert await counts(services) == before
    assert cookie_name("theme") not in mine.cookies
    assert (await mine.open("/tasks")).has_form("Log out")


async def test_a_method_cannot_be_overridden(alice: ApiClient) -> None:
    task = await alice.add_task()
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"]:
        path = f"/api/tasks/{task['id']}?_method=DELETE"
        assert (await alice.get(path, headers={name: "DELETE"})).json == task
    assert (await alice.get(f"/api/tasks/{task['id']}")).status == 200


async def test_a_page_takes_no_unknown_method(mine: PageClient) -> None:
    for path, _ in ROUTES:
        for method in ["TRACE", "CONNECT", "PROPFIND", "BREW", "get", "Post"]:
            page = await mine.fetch(method, path.replace(":id", NO_TASK), b"")
            assert page.status in ({405} if ":path" not in path else {404, 405}), path
            assert page.status != 405 or "OPTIONS" in page.headers["Allow"]


FOREIGN = {
    "id": NO_TASK,
    "createdAt": "2001-01-01T00:00:00Z",
    "updatedAt": "2001-01-01T00:00:00Z",
}
UNKNOWN = [
    "userId",
    "user_id",
    "owner",
    "is_admin",
    "isAdmin",
    "role",
    "created_at",
    "key",
    "__proto__",
]


async def test_nothing_but_the_named_fields_can_be_set(
    alice: ApiClient, bob: ApiClient, mine: PageClient
) -> None:
    made = (await alice.post("/api/tasks", {"title": "x"} | FOREIGN)).json
    assert FOREIGN.items().isdisjoint(made.items())
    changed = (await alice.put(f"/api/tasks/{made['id']}", {"title": "y"} | FOREIGN)).json
    assert (changed["id"], changed["createdAt"]) == (made["id"], made["createdAt"])
    for name in UNKNOWN:
        for value in [True, bob.user_id]:
            assert_problem(await alice.post("/api/tasks", {"title": "x", name: value}), 400)
            response = await alice.put(f"/api/tasks/{made['id']}", {"title": "z", name: value})
            assert_problem(response, 400)
            account = {"email": "carol@example.com", "password": PASSWORD, name: value}
            assert_problem(await alice.post("/api/auth/register", account), 400)
    await mine.open("/tasks")
    await mine.submit("Add", title="Mine", user_id=bob.user_id, id=NO_TASK, status="completed")
    assert await titles(bob) == []
    newest = (await alice.get("/api/tasks")).json["tasks"][0]
    assert (newest["title"], newest["status"]) == ("Mine", "pending")
    assert newest["id"] != NO_TASK


async def test_a_body_and_an_address_are_never_mixed_up(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    made = await alice.post("/api/tasks?title=query&status=completed", {"title": "body"})
    assert (made.json["title"], made.json["status"]) == ("body", "pending")
    assert_problem(await alice.post("/api/tasks?title=query", {}), 400)
    assert (await alice.put(f"/api/tasks/{task['id']}?title=query", {})).json["title"] == "Buy milk"
    proof = mine.csrf_field
    page = await mine.fetch("POST", "/tasks?title=query", proof)
    assert page.status == 400
    twice = [*proof.items(), ("title", "one"), ("title", "two")]
    assert (await mine.fetch("POST", "/tasks", twice)).status == 400
    assert await titles(alice) == ["body", "Buy milk"]


async def test_no_password_is_taken_from_an_address(visitor: PageClient, alice: ApiClient) -> None:
    query = urlencode({"email": ALICE, "password": PASSWORD})
    assert_problem(await alice.post(f"/api/auth/login?{query}", {}), 400)
    await visitor.open("/login")
    assert (await visitor.fetch("POST", f"/login?{query}", visitor.csrf_field)).status == 400
    assert cookie_name("session") not in visitor.cookies
    token = alice.headers["Authorization"].removeprefix("Bearer ")
    for name in ["token", "access_token", "Authorization"]:
        response = await alice.get(
            f"/api/tasks?{urlencode({name: token})}", headers={"Authorization": ""}
        )
        assert_problem(response, 401)


# Forged sessions


def flips(text: str) -> Iterable[str]:
    """Yield a text with each of its characters changed, shortened, and extended."""
    for place, sign in enumerate(text):
        yield text[:place] + ("A" if sign != "A" else "B") + text[place + 1 :]
    yield from (text[:-1], text[1:], text + "A", text.swapcase(), text.replace(".", ""), "")


async def test_a_cookie_that_was_altered_anywhere_is_nobodys(
    mine: PageClient, http_client: object, base_url: str
) -> None:
    good = mine.cookies[cookie_name("session")]
    forger = PageClient(http_client, base_url)
    for forged in flips(good):
        forger.cookies[cookie_name("session")] = forged
        response = await forger.fetch("GET", "/tasks")
        assert (response.status, response.location) == (303, "/login?next=/tasks"), forged
    forger.cookies[cookie_name("session")] = good
    assert (await forger.fetch("GET", "/tasks")).status == 200


async def test_a_token_that_was_altered_anywhere_is_nobodys(alice: ApiClient) -> None:
    good = alice.headers["Authorization"].removeprefix("Bearer ")
    for forged in [*flips(good), *self_made_tokens(alice.user_id)]:
        response = await alice.get("/api/tasks", headers={"Authorization": f"Bearer {forged}"})
        assert_problem(response, 401)
    for scheme in ["Basic", "Digest", "Token", "Bearer Bearer", ""]:
        response = await alice.get("/api/tasks", headers={"Authorization": f"{scheme} {good}"})
        assert_problem(response, 401)


def self_made_tokens(user_id: str) -> list[str]:
    """Return tokens of kinds whose header names the algorithm that checks them."""

    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = part({"sub": user_id, "exp": 9_999_999_999})
    headers = [{"alg": name, "typ": "JWT"} for name in ("none", "None", "HS256", "RS256")]
    ends = ["", "x", "A" * 43]
    return [f"{part(dict(head))}.{claims}.{end}" for head, end in product(headers, ends)]


async def test_the_session_of_one_shows_nothing_of_another(
    mine: PageClient, bob: ApiClient, alice: ApiClient, task: dict[str, str]
) -> None:
    theirs = await bob.add_task("Bob's secret", description="Bob's words")
    for route, handler in ROUTES:
        if "/tasks/:id" not in route:
            continue
        client = mine if issubclass(handler, PageHandler) else alice
        for method in handler.allowed_methods():
            path = route.replace(":id", theirs["id"])
            if isinstance(client, PageClient):
                form = client.csrf_field | {"title": "Mine now", "status": "completed"}
                page = await client.fetch(method, path, form if method == "POST" else None)
                said, status = page.html, page.status
            else:
                response = await client.send(method, path, raw=b'{"title": "Mine now"}')
                said, status = (response.body or b"").decode(), response.status
            assert status == (204 if method == "OPTIONS" else 403), (method, path)
            assert "Bob's" not in said
            assert BOB not in said
    assert await stored(bob, theirs) == theirs


# Words of attackers in the log


@pytest.mark.parametrize("text", ["\r\nforged", "\x1b[2J", "\u2028forged", "\x85forged", "é\u202e"])
async def test_no_text_forges_a_line_of_the_log(
    alice: ApiClient, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    encoded = quote(text, safe="")
    capsys.readouterr()
    await alice.get(f"/{encoded}?x={encoded}")
    await alice.get(f"/api/tasks/{encoded}")
    await alice.post("/api/tasks", {"title": text})
    await alice.post("/api/auth/login", {"email": f"{text}@example.com", "password": text})
    await alice.get("/api/health/live", headers={"User-Agent": text.strip() and "x\tforged"})
    logged = capsys.readouterr().err
    lines = logged.splitlines()
    assert logged.count("\n") == len(lines) >= 5
    assert all(json.loads(line)["event"] for line in lines)
    assert "forged" not in logged


def test_no_statement_is_put_together_of_text() -> None:
    """Every statement is built by SQLAlchemy, with parameters: none is a string of ours."""
    folder = Path(__file__).parents[2] / "taskapp" / "queries"
    for path in folder.glob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"\btext\(\s*f[\"']|\bf\"\s*(SELECT|INSERT|UPDATE|DELETE)\b", source)


@pytest.mark.parametrize("name", ["eval", "exec", "pickle", "marshal", "os.system", "shell=True"])
def test_nothing_that_was_sent_can_become_code(name: str) -> None:
    root = Path(__file__).parents[2]
    sources = [
        root / "server.py",
        *(root / "taskapp").rglob("*.py"),
        *(root / "handlers").rglob("*"),
    ]
    for path in sources:
        if path.suffix == ".py":
            text = path.read_text(encoding="utf-8")
            assert not re.search(rf"(?<![\w.]){re.escape(name)}\b(?=[(=\s.])", text), path
    script = (root / "static" / "taskapp.js").read_text(encoding="utf-8")
    assert not re.search(r"\beval\(|new Function|innerHTML|document\.write|postMessage", script)
