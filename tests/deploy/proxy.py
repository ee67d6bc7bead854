"""Runs nginx with deploy/nginx.conf; its paths and ports are those of a test."""

import http.client
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.certificates import Certificate, make_authority, make_certificate
from tests.support.server_process import CHECKOUT, LONG_ENOUGH, reserved_port, wait_until

DEPLOY = CHECKOUT / "deploy"
HOST = "tasks.example.com"


@dataclass
class Reply:
    """What curl received; status 0 means no response."""

    status: int
    version: str
    headers: dict[str, list[str]]
    body: str

    def header(self, name: str) -> str:
        [value] = self.headers[name.lower()]
        return value


class Proxy:
    """A running nginx, with curl as its client."""

    def __init__(
        self,
        folder: Path,
        http: int,
        https: int,
        authority: Certificate,
        launcher: Sequence[str] = (),
    ) -> None:
        """Take its folder, ports and authority, and the words that start curl in its network."""
        self.http, self.https = http, https
        self._launcher = launcher
        self._folder = folder
        self._authority = authority

    def curl(
        self, path: str, *options: str, scheme: str = "https", host: str = HOST, come_from: str = ""
    ) -> Reply:
        """Send a request; `come_from` is the client's address, on loopback."""
        port = self.https if scheme == "https" else self.http
        done = subprocess.run(
            [
                *self._launcher,
                "curl",
                "--silent",
                "--include",
                "--max-time",
                str(LONG_ENOUGH),
                "--http2",
            ]
            + ["--cacert", str(self._authority.path), "--connect-to", f"::127.0.0.1:{port}"]
            + (["--interface", come_from] if come_from else [])
            + [*options, f"{scheme}://{host}{path}"],
            capture_output=True,
            text=True,
            check=False,
        )
        return _read_reply(done.stdout)

    @contextmanager
    def connected(self, come_from: str = "") -> Iterator[http.client.HTTPSConnection]:
        """Return a client with a keep-alive connection."""
        context = ssl.create_default_context(cafile=str(self._authority.path))
        source = (come_from, 0) if come_from else None
        with (
            socket.create_connection(("127.0.0.1", self.https), 20, source) as plain,
            context.wrap_socket(plain, server_hostname=HOST) as secure,
        ):
            connection = http.client.HTTPSConnection(HOST)
            connection.sock = secure
            yield connection

    def log(self) -> str:
        return (self._folder / "error.log").read_text()


def _read_reply(text: str) -> Reply:
    head, _, body = text.partition("\n\n")
    first, *lines = head.splitlines() or [""]
    match = re.match(r"HTTP/([\d.]+) (\d+)", first)
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.lower(), []).append(value.strip())
    return Reply(int(match[2]) if match else 0, match[1] if match else "", headers, body)


def write_configuration(folder: Path, ports: dict[str, int], site: str) -> Path:
    """Write nginx.conf and its includes into a folder, with paths and ports of this test."""
    moved = {
        "/etc/nginx/taskapp/site.conf": f"/etc/nginx/taskapp/{site}",
        "/etc/nginx/taskapp/": f"{folder}/",
        "/etc/nginx/tls/": f"{folder}/",
        "/run/nginx.pid": f"{folder}/nginx.pid",
        "/var/cache/nginx/": f"{folder}/",
        "error_log stderr": f"error_log {folder}/error.log",
        "access_log /dev/stdout": f"access_log {folder}/access.log",
        "http {": f"http {{ client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; "
        f"fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;",
    }
    for source in [DEPLOY / "nginx.conf", *(DEPLOY / "nginx").glob("*.conf")]:
        text = source.read_text(encoding="utf-8")
        for old, new in moved.items():
            text = text.replace(old, new)
        text = re.sub(
            r"(listen |\[::\]:|127\.0\.0\.1:)(\d+)\b",
            lambda match: match[1] + str(ports[match[2]]),
            text,
        )
        (folder / source.name).write_text(text, encoding="utf-8")
    return folder / "nginx.conf"


@contextmanager
def running_proxy(folder: Path, processes: list[str], site: str = "site.conf") -> Iterator[Proxy]:
    """Run nginx in front of two processes on these ports."""
    authority = make_authority(folder)
    certificate = make_certificate(folder, authority, HOST)
    certificate.path.rename(folder / "fullchain.pem")
    certificate.key.rename(folder / "privkey.pem")
    with ExitStack() as stack:
        http, https = (stack.enter_context(reserved_port()) for _ in range(2))
        ports = {"80": http, "443": https}
        ports |= dict(zip(("8001", "8002"), map(int, processes), strict=True))
        configuration = write_configuration(folder, ports, site)
        nginx = stack.enter_context(
            subprocess.Popen(
                ["nginx", "-c", str(configuration), "-g", "daemon off;"],
                stderr=subprocess.DEVNULL,
                env={"PATH": "/usr/sbin:/usr/bin"},
            )
        )
        try:
            proxy = Proxy(folder, http, https, authority)
            wait_until(
                lambda: nginx.poll() is not None or proxy.curl("/", scheme="http").status == 301
            )
            assert nginx.poll() is None, proxy.log()
            yield proxy
        finally:
            nginx.terminate()
