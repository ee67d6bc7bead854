"""Bad input of every kind: a clear 4xx, never a 500, and nothing is changed."""

import asyncio
import gzip
import json
from itertools import product
from typing import Any
from urllib.parse import quote_from_bytes, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.pages.base import is_path_of_this_site
from taskapp.core.errors import EncodedBody
from tests.conftest import PASSWORD
from tests.support.api_tools import assert_problem, send_raw
from tests.support.clients import ApiClient, Response
from tests.support.page_client import PageClient

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.usefixtures("app")
gen_test = pytest.mark.gen_test

# The same examples each time; the server is shared by all, which is what servers are for.
fuzz = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

BODIES = {
    "nothing": b"",
    "a space": b" ",
    "half of an object": b'{"title": "x"',
    "two objects": b'{"title": "x"}{"title": "y"}',
    "a trailing comma": b'{"title": "x",}',
    "single quotes": b"{'title': 'x'}",
    "a comment": b'{"title": "x" /* y */}',
    "an array": b'[{"title": "x"}]',
    "a string": b'"title"',
    "a number": b"1",
    "null": b"null",
    "true": b"true",
    "a name twice": b'{"title": "x", "title": "y"}',
    "a name twice, written differently": b'{"title": "x", "titl\\u0065": "y"}',
    "a name twice, further in": b'{"title": "x", "id": {"a": 1, "a": 2}}',
    "NaN": b'{"title": NaN}',
    "Infinity in a field that is ignored": b'{"title": "x", "id": -Infinity}',
    "a number of 400 digits": b'{"title": ' + b"9" * 400 + b"}",
    "a number of 10,000 digits": b'{"title": "x", "id": ' + b"9" * 10_000 + b"}",
    "a number beyond all floats": b'{"title": 1e999}',
    "10,000 nested arrays": b'{"title": "x", "id": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "10,000 nested arrays that are not closed": b"[" * 10_000,
    "10,000 nested objects": b'{"id":' * 10_000 + b"1" + b"}" * 10_000,
    "invalid UTF-8": b'{"title": "\xff"}',
    "a cut UTF-8 sequence": b'{"title": "\xf0\x9f\x98"}',
    "an overlong NUL": b'{"title": "\xc0\x80"}',
    "a surrogate in UTF-8": b'{"title": "\xed\xa0\x80"}',
    "Latin-1": '{"title": "é"}'.encode("latin-1"),
    "UTF-16": '{"title": "x"}'.encode("utf-16"),
    "UTF-32": '{"title": "x"}'.encode("utf-32"),
    "a byte order mark alone": b"\xef\xbb\xbf",
    "two byte order marks": b'\xef\xbb\xbf\xef\xbb\xbf{"title": "x"}',
    "a byte order mark after the object": b'{"title": "x"}\xef\xbb\xbf',
    "NUL": b'{"title": "a\\u0000b"}',
    "a bare NUL": b'{"title": "a\0b"}',
    "a bare line end": b'{"title": "a\nb"}',
    "unpaired surrogate": b'{"title": "\\ud800"}',
    "the other half": b'{"title": "a\\udfffb"}',
    "the halves swapped": b'{"title": "\\ude00\\ud83d"}',
    "a surrogate as a name": b'{"title": "x", "\\ud800": "y"}',
    "NUL as a name": b'{"title": "x", "\\u0000": "y"}',
    "a surrogate in the description": b'{"title": "x", "description": "\\udc00"}',
    "NUL in the description": b'{"title": "x", "description": "\\u0000"}',
    "NUL in the status": b'{"title": "x", "status": "pending\\u0000"}',
    "a surrogate in the status": b'{"title": "x", "status": "\\ud800"}',
    "a bad escape": b'{"title": "\\x41"}',
    "a form": b"title=x",
    "XML": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><x>&y;</x>',
    "a long name": b'{"title": "x", "' + b"y" * 10_000 + b'": 1}',
    "1,000 unknown names": json.dumps(
        {"title": "x"} | {f"f{number}": number for number in range(1000)}
    ).encode(),
}

BAD_VALUES = [
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"a\0b",
    b"\x01",
    b'"',
    b",",
    b"'; --",
    b"x" * 8000,
    b"-1",
]


async def assert_refused_and_unchanged(client: ApiClient, body: bytes) -> None:
    """Send a body everywhere; each is refused, and the only task stays as it is."""
    before = (await client.get("/api/tasks")).json
    task_id = before["tasks"][0]["id"]
    for method, path in [
        ("POST", "/api/tasks"),
        ("PUT", f"/api/tasks/{task_id}"),
        ("PATCH", f"/api/tasks/{task_id}"),
        ("POST", "/api/auth/register"),
        ("POST", "/api/auth/login"),
    ]:
        assert_problem(await client.send(method, path, raw=body), 400)
    assert (await client.get("/api/tasks")).json == before


@gen_test
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_a_bad_body_is_refused_everywhere(alice: ApiClient, body: bytes) -> None:
    await alice.add_task()
    await assert_refused_and_unchanged(alice, body)


@gen_test
async def test_an_object_of_too_many_names_is_refused_without_naming_them(alice: ApiClient) -> None:
    names = {f"name {number}": number for number in range(101)}
    for body in (names, {"title": "Buy milk", "more": names}):
        response = await alice.post("/api/tasks", body)
        problem = assert_problem(response, 400)
        assert problem["detail"] == "A JSON object can have at most 100 names."
        assert "errors" not in problem


@gen_test
async def test_a_pair_of_surrogates_is_one_character(alice: ApiClient) -> None:
    response = await alice.post("/api/tasks", raw=b'{"title": "\\ud83d\\ude00"}')
    assert (response.status, response.json["title"]) == (201, "😀")


@gen_test
async def test_a_byte_order_mark_before_the_object_is_ignored(alice: ApiClient) -> None:
    task = await alice.add_task()
    for method, path, status in [
        ("POST", "/api/tasks", 201),
        ("PUT", f"/api/tasks/{task['id']}", 200),
        ("PATCH", f"/api/tasks/{task['id']}", 200),
    ]:
        response = await alice.send(method, path, raw=b'\xef\xbb\xbf{"title": "\xef\xbb\xbfx"}')
        assert (response.status, response.json["title"]) == (status, "\ufeffx")


@gen_test
@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "zstd", "deflate", "x", "identity, gzip"])
async def test_an_encoded_body_is_refused_in_a_sentence_everywhere(
    alice: ApiClient, mine: PageClient, coding: str
) -> None:
    task = await alice.add_task()
    headers = {"Content-Encoding": coding}
    for body in (gzip.compress(b'{"title": "x"}'), b'{"title": "x"}'):
        for method, path in [
            ("POST", "/api/tasks"),
            ("PUT", f"/api/tasks/{task['id']}"),
            ("PATCH", f"/api/tasks/{task['id']}"),
            ("POST", "/api/auth/register"),
            ("POST", "/api/auth/login"),
        ]:
            response = await alice.send(method, path, raw=body, headers=headers)
            assert assert_problem(response, 415)["detail"] == EncodedBody.detail
            assert response.headers["Accept-Encoding"] == "identity"
    mine.headers = headers
    for path in ["/tasks", f"/tasks/{task['id']}/edit", "/login", "/register", "/theme"]:
        page = await mine.fetch("POST", path, {**mine.csrf_field, "title": "x"})
        assert page.status == 415
        assert EncodedBody.detail in page.text
    assert (await alice.get("/api/tasks")).json["tasks"] == [task]


@gen_test
@pytest.mark.parametrize("coding", ["", "identity", "Identity"])
async def test_a_body_without_a_coding_may_say_so(alice: ApiClient, coding: str) -> None:
    body = {"title": "x"}
    response = await alice.post("/api/tasks", body, headers={"Content-Encoding": coding})
    assert response.status == 201


@gen_test
@pytest.mark.parametrize(
    "text", ["%00", "%ED%A0%80", "%FF", "%C0%80", "a%00b", "%F0%9F", "%", "%zz", "%u0041"]
)
async def test_bad_text_in_an_address_is_refused(alice: ApiClient, text: str) -> None:
    task = await alice.add_task()
    for path in [
        f"/api/tasks?status={text}",
        f"/api/tasks?limit={text}",
        f"/api/tasks?after={text}",
        f"/api/tasks/{text}",
        f"/api/tasks/{task['id']}{text}",
        f"/api/{text}",
    ]:
        for method in ["GET", "PUT", "DELETE"]:
            if "?" not in path or method == "GET":
                response = await alice.send(method, path, {"title": "x"})
                assert response.status in {400, 404}
                assert_problem(response, response.status)
    # What has no meaning is not looked at.
    assert (await alice.get(f"/api/tasks?{text}={text}&x={text}")).json["tasks"] == [task]


@gen_test
@pytest.mark.parametrize("path", ["/api/tasks?" + "a=1&" * 5000, "/api/tasks?" + "&" * 10_000])
async def test_thousands_of_parameters_do_no_harm(alice: ApiClient, path: str) -> None:
    response = await alice.get(path)
    assert response.status in {200, 400, 414, 431}


@gen_test
@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "If-None-Match",
        "If-Match",
        "Idempotency-Key",
        "Content-Type",
        "X-Request-ID",
        "X-Forwarded-For",
        "Cookie",
        "Origin",
        "Host",
        "Accept",
        "Content-Length",
        "Transfer-Encoding",
        "Expect",
    ],
)
async def test_bad_text_in_a_header_never_breaks_anything(
    base_url: str, alice: ApiClient, name: str
) -> None:
    body = b'{"title": "x"}'
    for method, value in product([b"GET", b"POST"], BAD_VALUES):
        headers = {
            "Host": b"localhost",
            "Authorization": alice.headers["Authorization"].encode(),
            "Content-Type": b"application/json",
            "Connection": b"close",
            "Content-Length": b"%d" % len(body),
            name: value,
        }
        lines = [method + b" /api/tasks HTTP/1.1"]
        lines += [key.encode() + b": " + text for key, text in headers.items()]
        response = await send_raw(base_url, b"\r\n".join([*lines, b"", body]))
        assert not response or response.startswith(b"HTTP/1.1 ")
        assert b"HTTP/1.1 5" not in response
    assert (await alice.get("/api/tasks")).status == 200


@gen_test
@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /api/tasks HTTP/1.1\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /api/\xff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET http://evil/api/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST /api/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost:x\r\nTransfer-Encoding:chunked\r\nContent-Length: 3\r\n\r\n0",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    ],
)
async def test_what_is_no_http_is_refused_and_the_server_lives_on(
    api: ApiClient, base_url: str, request_bytes: bytes
) -> None:
    response = await send_raw(base_url, request_bytes)
    assert not response or response.startswith(b"HTTP/1.1 4")
    assert (await api.get("/api/health")).status == 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
field_names = st.sampled_from(["title", "description", "status", "id", "createdAt", "colour"])
likely_objects = st.dictionaries(field_names, json_values, max_size=4)


def assert_sane(response: Response) -> None:
    """Check that an answer is a success or a problem of ours."""
    if response.status not in {200, 201}:
        assert response.status in {400, 413}
        assert_problem(response, response.status)


async def send_everywhere(client: ApiClient, task_id: str, raw: bytes) -> None:
    for method, path in [("POST", "/api/tasks"), ("PUT", f"/api/tasks/{task_id}")]:
        assert_sane(await client.send(method, path, raw=raw))
    for path in ["/api/auth/register", "/api/auth/login"]:
        assert_problem(await client.post(path, raw=raw), 400)


@gen_test
async def test_many_brackets_are_refused_but_in_texts(alice: ApiClient) -> None:
    for title in ("[{" * 100, '\\"[{' * 20, "\\"):
        task = await alice.add_task(title)
        assert task["title"] == title
    for value in ("[]," * 8 + "[]", '{"x": ' * 9 + "0" + "}" * 9, '"\\\\", ' + "{}," * 8 + "{}"):
        response = await alice.post("/api/tasks", raw=f'{{"title": [{value}]}}'.encode())
        assert_problem(response, 400)
        assert response.json["detail"] == "The body has too many arrays and objects."


@pytest.mark.fuzz
def test_any_json_is_answered(alice: ApiClient, io_loop: Any) -> None:
    task = io_loop.run_sync(alice.add_task)

    @fuzz
    @given(json_values | likely_objects)
    def send(value: object) -> None:
        raw = json.dumps(value).encode()
        io_loop.run_sync(lambda: send_everywhere(alice, task["id"], raw))

    send()


@pytest.mark.fuzz
def test_any_bytes_are_answered(alice: ApiClient, io_loop: Any) -> None:
    task = io_loop.run_sync(alice.add_task)

    @fuzz
    @given(st.binary(max_size=200) | st.text().map(lambda text: text.encode("utf-8", "replace")))
    def send(raw: bytes) -> None:
        io_loop.run_sync(lambda: send_everywhere(alice, task["id"], raw))

    send()


@pytest.mark.fuzz
def test_any_address_is_answered(alice: ApiClient, io_loop: Any) -> None:
    places = ["/api/tasks/{}", "/api/{}", "/api/tasks?status={}", "/api/tasks?after={}"]

    @fuzz
    @given(st.sampled_from(places), st.binary(min_size=1, max_size=40))
    def send(place: str, value: bytes) -> None:
        path = place.format(quote_from_bytes(value, safe=""))
        response = io_loop.run_sync(lambda: alice.get(path))
        if response.status != 200:  # it may be "/api/health"
            assert response.status in {400, 404}
            assert_problem(response, response.status)

    send()


@pytest.mark.fuzz
def test_any_form_is_answered_by_a_page(
    mine: PageClient, task: dict[str, str], io_loop: Any
) -> None:
    paths = ["/tasks", "/tasks/several", "/tasks/completed/delete", "/theme", "/login", "/register"]
    paths += [f"/tasks/{task['id']}/edit", f"/tasks/{task['id']}/status"]
    names = ["title", "description", "titles", "key", "status", "version", "until", "theme", "next"]
    names += ["email", "password", "draft_action", "draft_title", "draft_titles"]
    values = st.binary(max_size=40) | st.sampled_from([b"pending", b"/tasks", b"x" * 300, b"\0"])
    values |= st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace"))

    @fuzz
    @given(
        st.sampled_from(paths),
        st.binary(max_size=20),
        st.lists(st.tuples(st.sampled_from(names), values), max_size=6),
    )
    def send(path: str, query: bytes, fields: list[tuple[str, bytes]]) -> None:
        sent = urlencode([*mine.csrf_field.items(), *fields]).encode("ascii")
        address = f"{path}?status={quote_from_bytes(query)}&after={quote_from_bytes(query)}"
        page = io_loop.run_sync(lambda: mine.fetch("POST", address, sent))
        assert page.status in {303, 400, 401, 409}
        assert page.status == 303 or page.headers["Content-Type"] == "text/html; charset=UTF-8"
        assert page.location == "" or is_path_of_this_site(page.location)

    send()


@pytest.mark.fuzz
def test_any_e_mail_address_and_password_are_answered(api: ApiClient, io_loop: Any) -> None:
    text = st.text(st.characters(exclude_categories=[]), max_size=30)
    emails = text | st.emails() | st.builds("{}@{}.example".format, text, text)

    @fuzz
    @given(emails, text | st.just(PASSWORD))
    def send(email: str, password: str) -> None:
        sent = {"email": email, "password": password}
        registered = io_loop.run_sync(lambda: api.post("/api/auth/register", sent))
        if registered.status == 201:
            logged_in = io_loop.run_sync(lambda: api.post("/api/auth/login", sent))
            assert logged_in.status == 200
        else:
            assert registered.status in {400, 409}
            assert_problem(registered, registered.status)

    send()


@pytest.mark.fuzz
def test_any_title_that_can_be_stored_comes_back_as_typed(alice: ApiClient, io_loop: Any) -> None:
    storable = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    texts = st.text(storable, max_size=60)

    @fuzz
    @given(texts, storable.filter(lambda one: one.isprintable() and not one.isspace()), texts)
    def send(before: str, visible: str, after: str) -> None:
        title = before + visible + after
        sent = {"title": title, "description": title}

        async def make_and_read() -> Any:
            made = await alice.post("/api/tasks", sent)
            assert made.status == 201, made.json
            return (await alice.get(f"/api/tasks/{made.json['id']}")).json

        task = io_loop.run_sync(make_and_read)
        assert (task["title"], task["description"]) == (title.strip(), title)

    send()


@gen_test
async def test_bad_requests_at_once_harm_no_good_one(alice: ApiClient) -> None:
    async def bad() -> Response:
        return await alice.post("/api/tasks", raw=b"[" * 10_000)

    async def good() -> Response:
        return await alice.post("/api/tasks", {"title": "x"})

    responses = await asyncio.gather(*(work() for work in [bad, good] * 10))
    assert [response.status for response in responses] == [400, 201] * 10
