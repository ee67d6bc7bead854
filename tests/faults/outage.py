"""Responses to browsers, scripts and orchestrators while the database is away."""

import re
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from urllib.parse import urlencode
from uuid import uuid4

from tests.faults.ledger import PROBLEM
from tests.support.server_process import PASSWORD, Client, Response

TIMEOUT = 5.0  # seconds for every response
HTML = "text/html; charset=UTF-8"
SOMEBODY = {"email": "somebody@example.com", "password": PASSWORD}


class Browser:
    """Sends requests of a logged-in browser."""

    def __init__(self, address: str, email: str) -> None:
        self._address = address
        self._cookies: dict[str, str] = {}
        self._proof = _find_proof(self.get("/login"))
        response = self.post("/login", email=email, password=PASSWORD)
        assert response.status == 303, response.body
        self._proof = _find_proof(self.get("/tasks"))

    def get(self, path: str) -> Response:
        return self._send("GET", path, "")

    def post(self, path: str, **fields: str) -> Response:
        return self._send("POST", path, urlencode(fields | {"csrf_token": self._proof}))

    def _send(self, method: str, path: str, form: str) -> Response:
        cookie = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        with Client(self._address) as client:
            response = client.send_form(method, path, form, Cookie=cookie)
        for header in response.headers.get_all("Set-Cookie") or []:
            for name, morsel in SimpleCookie(header).items():
                self._cookies[name] = morsel.value
        return response


class Watchers:
    """A script, a browser and an orchestrator, connected before the outage."""

    def __init__(self, address: str) -> None:
        self._address = address
        with Client(address) as client:
            client.sign_up(f"{uuid4().hex}@example.com")
        self._token = client.token
        self._browser = Browser(address, client.email)

    def assert_told_of_outage(self) -> None:
        """Assert that each gets a 503 in its format, with Retry-After, within five seconds."""
        with ThreadPoolExecutor() as others:
            scripts = [
                others.submit(self._ask, "GET", "/api/tasks"),
                others.submit(self._ask, "POST", "/api/tasks", {"title": "Buy milk"}),
                others.submit(self._ask, "POST", "/api/auth/login", SOMEBODY),
            ]
            reader = others.submit(self._browser.get, "/tasks")
            writer = others.submit(self._browser.post, "/tasks", title="Typed with care")
            health = others.submit(self._ask, "GET", "/api/health")
            ready = others.submit(self._ask, "GET", "/api/health/ready")
            live = others.submit(self._ask, "GET", "/api/health/live")
        for script in scripts:
            _assert_unavailable(script.result(), PROBLEM)
            assert script.result().json["status"] == 503
        _assert_unavailable(reader.result(), HTML)
        _assert_unavailable(writer.result(), HTML)
        assert b"Typed with care" in writer.result().body
        assert health.result().json["status"] == "unhealthy"
        assert ready.result().json == {"status": "database unavailable"}
        for response in (health.result(), ready.result()):
            assert response.status == 503
            assert response.seconds < TIMEOUT
        assert live.result().status == 200

    def assert_first_requests_succeed(self) -> None:
        """Assert that the first request of each succeeds after the outage."""
        assert self._ask("POST", "/api/tasks", {"title": "the first"}).status == 201
        assert self._browser.get("/tasks").status == 200
        assert self._ask("GET", "/api/health/ready").status == 200

    def _ask(self, method: str, path: str, body: object = None) -> Response:
        with Client(self._address, self._token) as client:
            return client.send(method, path, body)


def _find_proof(response: Response) -> str:
    found = re.search(rb'name="csrf_token" value="([^"]+)"', response.body)
    assert found, response.body
    return found[1].decode()


def _assert_unavailable(response: Response, content_type: str) -> None:
    assert response.status == 503, response.body
    assert response.headers["Content-Type"] == content_type
    assert int(response.headers["Retry-After"]) > 0
    assert response.seconds < TIMEOUT
