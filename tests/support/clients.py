"""HTTP clients of the tests."""

import json
from dataclasses import dataclass, field
from typing import Any

from tornado.httpclient import HTTPClientError, HTTPResponse


@dataclass
class Response:
    """A response of the API."""

    response: HTTPResponse

    @property
    def status(self) -> int:
        return self.response.code

    @property
    def body(self) -> bytes:
        return self.response.body

    @property
    def headers(self) -> Any:
        return self.response.headers

    @property
    def json(self) -> Any:
        return json.loads(self.response.body)


@dataclass
class ApiClient:
    """Sends requests of one user to the JSON API over HTTP."""

    http_client: Any
    base_url: str
    headers: dict[str, str] = field(default_factory=dict)
    email: str = ""
    user_id: str = ""

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Send a request with a JSON body, or with raw bytes."""
        sent = dict(self.headers)
        content = raw
        if body is not None:
            content = json.dumps(body).encode("utf-8")
        if content is not None:
            sent["Content-Type"] = "application/json"
        try:
            response = await self.http_client.fetch(
                self.base_url + path,
                method=method,
                body=content,
                headers=sent | (headers or {}),
                raise_error=False,
                follow_redirects=False,
                allow_nonstandard_methods=True,
            )
        except HTTPClientError as error:
            raise AssertionError(f"{method} {path} got no response: {error}") from error
        return Response(response)

    async def get(self, path: str, **more: Any) -> Response:
        return await self.send("GET", path, **more)

    async def post(self, path: str, body: object = None, **more: Any) -> Response:
        return await self.send("POST", path, body, **more)

    async def put(self, path: str, body: object = None, **more: Any) -> Response:
        return await self.send("PUT", path, body, **more)

    async def patch(self, path: str, body: object = None, **more: Any) -> Response:
        return await self.send("PATCH", path, body, **more)

    async def delete(self, path: str, **more: Any) -> Response:
        return await self.send("DELETE", path, **more)

    async def log_in(self, email: str, password: str) -> "ApiClient":
        """Log in, and return a client that sends the token."""
        response = await self.post("/api/auth/login", {"email": email, "password": password})
        assert response.status == 200, response.json
        return ApiClient(
            self.http_client,
            self.base_url,
            {"Authorization": f"Bearer {response.json['token']}"},
            email,
            response.json["user"]["id"],
        )

    async def sign_up(self, email: str, password: str) -> "ApiClient":
        """Register, log in, and return a client that sends the token."""
        response = await self.post("/api/auth/register", {"email": email, "password": password})
        assert response.status == 201, response.json
        return await self.log_in(email, password)

    async def add_task(self, title: str = "Buy milk", **fields: str) -> dict[str, Any]:
        """Create a task, and return it."""
        response = await self.post("/api/tasks", {"title": title, **fields})
        assert response.status == 201, response.json
        task: dict[str, Any] = response.json
        return task
