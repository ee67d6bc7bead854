"""nginx with deploy/nginx.conf, in front of two processes on one PostgreSQL."""

import json
import re
import shlex
import socket
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs would be another package

from handlers.rendering.static_assets import digest
from handlers.web.safe_headers import HSTS
from tests.deploy.certificates import make_authority, make_certificate
from tests.deploy.proxy import HOST, Proxy, running_proxy, write_configuration
from tests.deploy.tools import run_tool
from tests.runtime.test_listeners import WITHOUT_IPV6
from tests.support.document_blocks import read_blocks
from tests.support.namespaces import Host, running_hosts
from tests.support.server_process import (
    CHECKOUT,
    LONG_ENOUGH,
    ServerProcess,
    server_process,
    wait_until,
)

PORTS = {"80": 8080, "443": 8443, "8001": 8001, "8002": 8002}  # nothing is bound by `nginx -t`
KEY = "only-for-tests-0123456789-abcdefghijklmnop"
JSON = ("-H", "Content-Type: application/json")
READERS = 4
# Findings of gixy that do not apply, with the reason.
EXPLAINED = {
    "host_spoofing": "$host has no port, which forms are compared with; taskapp checks the host",
}


@contextmanager
def site(url: str, **settings: str) -> Iterator[tuple[Proxy, list[ServerProcess]]]:
    """Run two processes with nginx in front of them."""
    name = "subpath-site.conf" if "TASKAPP_BASE_PATH" in settings else "site.conf"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp")))
        folder.chmod(0o755)  # nginx's workers are not root
        both = {
            "TASKAPP_DATABASE_URL": url,
            "TASKAPP_SECRET_KEY": KEY,
            "TASKAPP_PUBLIC_URL": f"https://{HOST}",
            "TASKAPP_TRUSTED_PROXIES": "127.0.0.1",
            "TASKAPP_DATABASE_POOL": "5",
        }
        servers = [
            stack.enter_context(server_process(folder / f"data{number}", settings=both | settings))
            for number in (1, 2)
        ]
        addresses = [server.address for server in servers]
        base = settings.get("TASKAPP_BASE_PATH", "")
        for server in servers:
            with server.client() as client:
                wait_until(lambda: client.status(f"{base}/api/health/ready") == 200)  # at once
        yield stack.enter_context(running_proxy(folder, addresses, name)), servers


@pytest.fixture(scope="module")
def plain_site(database_url: str) -> Iterator[tuple[Proxy, list[ServerProcess]]]:
    with site(database_url) as running:
        yield running


@pytest.fixture
def proxy(plain_site: tuple[Proxy, list[ServerProcess]]) -> Proxy:
    return plain_site[0]


def seen_address(servers: list[ServerProcess], path: str) -> list[str]:
    """Return the client addresses that taskapp logged for a path."""
    lines = [
        line for server in servers for line in server.log if line["event"] == "request.completed"
    ]
    return [line["address"] for line in lines if line["route"] == path]


def test_a_client_cannot_say_that_it_is_another(
    plain_site: tuple[Proxy, list[ServerProcess]],
) -> None:
    proxy, servers = plain_site
    forged = [
        part
        for name in ("X-Real-IP", "X-Forwarded-For", "Forwarded", "X-Client-IP", "True-Client-IP")
        for part in ("-H", f"{name}: {'for=' if name == 'Forwarded' else ''}203.0.113.9")
    ]
    for options in ([], forged, ["-H", "X-Forwarded-For: 203.0.113.9, 127.0.0.1"]):
        assert proxy.curl("/robots.txt", *options, come_from="127.0.0.5").status == 200
    wait_until(lambda: len(seen_address(servers, "/robots.txt")) == 3)
    assert set(seen_address(servers, "/robots.txt")) == {"127.0.0.5"}


def test_people_are_led_to_https_and_stay_there(proxy: Proxy) -> None:
    reply = proxy.curl("/tasks?status=pending", scheme="http")
    assert (reply.status, reply.header("Location")) == (301, f"https://{HOST}/tasks?status=pending")
    reply = proxy.curl("/tasks")
    assert (reply.status, reply.header("Location")) == (303, "/login?next=/tasks")
    assert reply.header("Strict-Transport-Security").startswith("max-age=")


def test_a_script_that_forgets_https_is_not_led_there(proxy: Proxy) -> None:
    """ASVS 4.1.2: a redirect would hide that its token went over the line unencrypted."""
    for path in ("/api/tasks", "/api/auth/login", "/api/docs/", "/api/", "//api/tasks"):
        for method in ("GET", "POST"):
            assert proxy.curl(path, "-X", method, scheme="http").status == 403, path
    for page in ("/", "/api/docs", "/apis"):
        assert proxy.curl(page, scheme="http").status == 301


def test_a_form_is_of_the_site_at_any_port(proxy: Proxy) -> None:
    port = ("-H", f"Host: {HOST}:8443", "-d", "email=alice@example.com")
    for origin, words in (("8443", "allow cookies"), ("9443", "Your browser sent it from")):
        reply = proxy.curl("/login", *port, "-H", f"Origin: https://{HOST}:{origin}")
        assert reply.status == 403
        assert words in reply.body


def test_a_browser_logs_in_at_any_port(proxy: Proxy, tmp_path: Path) -> None:
    account = {"email": "bob@example.com", "password": "SecurePass123!"}
    assert proxy.curl("/api/auth/register", *JSON, "-d", json.dumps(account)).status == 201
    cookies = str(tmp_path / "cookies")
    browser = ("-H", f"Host: {HOST}:8443", "--cookie", cookies, "--cookie-jar", cookies)
    token = re.search(r'name="csrf_token" value="([^"]+)"', proxy.curl("/login", *browser).body)
    assert token
    fields = urlencode(account | {"csrf_token": token[1]})
    reply = proxy.curl("/login", *browser, "-H", f"Origin: https://{HOST}:8443", "-d", fields)
    assert (reply.status, reply.header("Location")) == (303, "/tasks")
    assert "Logged in as bob@example.com" in proxy.curl("/tasks", *browser).body


def test_cookies_are_for_https_and_this_host_only(proxy: Proxy) -> None:
    cookies = proxy.curl("/login").headers["set-cookie"]
    assert cookies
    for cookie in cookies:
        assert cookie.startswith("__Host-taskapp")
        assert {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))


def test_logging_in_works_on_either_process(proxy: Proxy) -> None:
    account = json.dumps({"email": "alice@example.com", "password": "SecurePass123!"})
    assert proxy.curl("/api/auth/register", *JSON, "-d", account).status == 201
    reply = proxy.curl("/api/auth/login", *JSON, "-d", account)
    token = ("-H", f"Authorization: Bearer {json.loads(reply.body)['token']}")
    made = proxy.curl("/api/tasks", *JSON, *token, "-d", '{"title": "Buy milk"}')
    assert made.status == 201
    for _ in range(4):  # nginx alternates between the processes
        listed = proxy.curl("/api/tasks", *token)
        assert [task["title"] for task in json.loads(listed.body)["tasks"]] == ["Buy milk"]


def test_http_2_is_spoken_and_no_old_tls(proxy: Proxy) -> None:
    assert proxy.curl("/login").version == "2"
    assert proxy.curl("/login", "--tlsv1.2", "--tls-max", "1.2").status == 200
    assert proxy.curl("/login", "--tlsv1.3").status == 200
    old = ("--ciphers", "DEFAULT@SECLEVEL=0", "--tlsv1.0", "--tls-max", "1.1")
    assert proxy.curl("/login", *old).status == 0


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "example.com", f"www.{HOST}"])
def test_a_host_that_is_not_ours_gets_no_response(proxy: Proxy, host: str) -> None:
    for scheme in ("http", "https"):
        assert proxy.curl("/login", scheme=scheme, host=host).status == 0
    # Nor with the right TLS name and another Host.
    assert proxy.curl("/login", "--http1.1", "-H", f"Host: {host}").status == 0


def test_what_is_large_or_not_for_everybody_is_refused(proxy: Proxy) -> None:
    assert proxy.curl("/metrics").status == 404
    sent = ("--data-binary", "@-", "-H", "Content-Type: application/json")
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"x" * 2_000_000)
        body.flush()
        large = proxy.curl("/api/tasks", *sent[:1], f"@{body.name}", *sent[2:])
    assert large.status == 413


def test_what_nginx_answers_itself_has_the_safe_headers_of_taskapp(proxy: Proxy) -> None:
    sent: dict[tuple[str, int], list[str]] = {
        ("/login", 200): [],
        ("/nothing", 404): [],
        ("/metrics", 404): [],
        ("/login", 400): ["-H", "X-Large: " + "x" * 70_000],
        ("/api/tasks", 413): ["-X", "POST", "-H", "Content-Length: 2000000"],
    }
    for (path, status), options in sent.items():
        reply = proxy.curl(path, "--http1.1", *options)
        assert reply.status == status
        assert reply.header("Strict-Transport-Security") == HSTS  # only once
        assert reply.header("Content-Security-Policy").startswith("default-src 'none'")
        assert reply.header("X-Content-Type-Options") == "nosniff"


def test_pages_and_static_files_come_compressed(proxy: Proxy) -> None:
    for path in ("/login", f"/static/style.css?v={digest('style.css')}"):
        reply = proxy.curl(path, "-H", "Accept-Encoding: gzip", "-o", "/dev/null", "-D", "-")
        assert reply.header("Content-Encoding") == "gzip"
        assert "Accept-Encoding" in reply.header("Vary")


def test_guessing_passwords_is_slowed_down(proxy: Proxy) -> None:
    account = json.dumps({"email": "nobody@example.com", "password": "wrong"})
    codes = Counter(
        proxy.curl("/api/auth/login", *JSON, "-d", account, come_from="127.0.0.77").status
        for _ in range(45)
    )
    assert codes[429]
    assert set(codes) <= {401, 429}
    assert proxy.curl("/login", come_from="127.0.0.78").status == 200  # others are not affected


def test_no_address_and_no_header_takes_taskapp_from_others(proxy: Proxy) -> None:
    hostile = [
        *(f"/tasks?{text}" for text in ("a" * 6000, "%22" * 2000, "/" * 6000)),
        f"/login?next=/{'a' * 6000}",
        f"/{'a' * 6000}",
    ]
    for number, address in enumerate(hostile * 3):
        assert proxy.curl(address, come_from=f"127.0.1.{number}").status in {200, 303, 404}
        others = [proxy.curl("/status", come_from="127.0.0.88").status for _ in range(3)]
        assert others == [200] * 3, address


@pytest.mark.parametrize("name", ["nginx/site.conf", "nginx/subpath-site.conf", "compose.yaml"])
def test_no_number_of_failures_takes_a_process_out(name: str) -> None:
    text = (CHECKOUT / "deploy" / name).read_text()
    servers = re.findall(r"^ +server (?:127\.0\.0\.1|taskapp-\d):\d+(.*);", text, re.MULTILINE)
    assert servers == [" max_fails=0"] * 2


def read_until(stopped: threading.Event, proxy: Proxy, codes: "Counter[int]") -> None:
    while not stopped.is_set():
        with proxy.connected() as connection:
            for _ in range(10):
                connection.request("GET", "/api/health")
                response = connection.getresponse()
                response.read()
                codes[response.status] += 1


def test_a_killed_process_fails_no_get(database_url: str) -> None:
    stopped = threading.Event()
    codes: Counter[int] = Counter()
    with site(database_url) as (proxy, [first, second]):
        readers = [
            threading.Thread(target=read_until, args=(stopped, proxy, codes), daemon=True)
            for _ in range(READERS)
        ]
        for reader in readers:
            reader.start()
        wait_until(lambda: codes.total() > 100)
        first.process.kill()
        seen = codes.total()
        wait_until(lambda: codes.total() > seen + 200)
        stopped.set()
        for reader in readers:
            reader.join()
        assert set(codes) <= {200, 429}
        assert codes[200] > 200
        # With both processes gone, nginx serves its cache, and responds with 502 otherwise.
        visitor = "127.0.0.9"  # not rate limited by nginx yet
        style = f"/static/style.css?v={digest('style.css')}"
        assert proxy.curl(style, come_from=visitor).status == 200
        second.process.kill()
        second.process.wait()
        assert proxy.curl(style, come_from=visitor).status == 200
        assert proxy.curl("/login", come_from=visitor).status == 502


def test_below_a_path_everything_stays_below_it(database_url: str) -> None:
    with site(database_url, TASKAPP_BASE_PATH="/mine") as (proxy, _):
        assert proxy.curl("/login").status == 404
        assert proxy.curl("/mine").header("Location") == "/mine/login"
        reply = proxy.curl("/mine/login")
        assert reply.status == 200
        assert '"/mine/static/style.css?v=' in reply.body
        assert 'href="/static/' not in reply.body
        assert all(cookie.startswith("__Host-") for cookie in reply.headers["set-cookie"])
        assert proxy.curl("/mine/static/style.css").status == 200
        assert proxy.curl("/mine/api/tasks").status == 401
        assert proxy.curl("/mine/metrics").status == 404
        assert proxy.curl("/mine/api/tasks", scheme="http").status == 403
        assert proxy.curl("/mine/tasks", scheme="http").status == 301


@pytest.mark.parametrize("name", ["site.conf", "subpath-site.conf"])
def test_gixy_finds_nothing_that_is_not_explained(tmp_path: Path, name: str) -> None:
    ports = {port: int(port) for port in ("80", "443", "8001", "8002")}
    done = run_tool("gixy", "-f", "json", write_configuration(tmp_path, ports, name))
    issues = [issue for issue in json.loads(done.stdout) if issue["severity"] != "LOW"]
    assert {issue["severity"] for issue in issues} <= {"MEDIUM"}
    assert {issue["plugin"] for issue in issues} == set(EXPLAINED)


@pytest.fixture
def configured() -> Iterator[Path]:
    """Yield the folder of a configuration with its certificate."""
    with tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as name:
        folder = Path(name)
        certificate = make_certificate(folder, make_authority(folder), HOST)
        certificate.path.rename(folder / "fullchain.pem")
        certificate.key.rename(folder / "privkey.pem")
        yield folder


def check_without_ipv6(configuration: Path) -> tuple[int, str]:
    """Run `nginx -t` as on a machine without IPv6."""
    done = subprocess.run(
        [*WITHOUT_IPV6, "nginx", "-t", "-c", configuration],
        env={"PATH": "/usr/sbin:/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("site", ["site.conf", "subpath-site.conf"])
def test_without_ipv6_its_lines_are_deleted_as_the_page_says(configured: Path, site: str) -> None:
    configuration = write_configuration(configured, PORTS, site)
    code, said = check_without_ipv6(configuration)
    assert (code, "Address family not supported by protocol" in said) == (1, True), said
    page = (CHECKOUT / "docs/how-to/behind-nginx.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^ *(sed -i .*)$", page, re.MULTILINE)
    here = command.replace("/etc/nginx/taskapp/site.conf", str(configured / site))
    subprocess.run(["sh", "-c", here], check=True)
    code, said = check_without_ipv6(configuration)
    assert (code, "[warn]" in said) == (0, False), said
    left = (configured / site).read_text()
    assert left.count("server {") == 2
    assert "::" not in left


def test_the_compose_file_needs_no_ipv6(configured: Path) -> None:
    configuration = write_configuration(configured, PORTS, "site.conf")
    compose = yaml.safe_load((CHECKOUT / "deploy/compose.yaml").read_text(encoding="utf-8"))
    content = compose["configs"]["site"]["content"].replace("$$", "$")
    for written, here in {
        "${TASKAPP_DOMAIN}": HOST,
        "server taskapp-": "server 127.0.0.",
        "/etc/nginx/taskapp/": f"{configured}/",
        "/etc/nginx/tls/": f"{configured}/",
    }.items():
        content = content.replace(written, here)
    (configured / "site.conf").write_text(content)
    assert check_without_ipv6(configuration)[0] == 0


ADDRESSES = {"nginx": "10.79.3.1", "many": "10.79.3.2", "visitor": "10.79.3.3"}


def can_connect(host: Host, stack: ExitStack) -> bool:
    """Open a connection from a host to nginx, without a request, and keep it."""
    with host.entered():
        client = stack.enter_context(socket.socket())
    client.settimeout(LONG_ENOUGH)
    try:
        client.connect((ADDRESSES["nginx"], 443))
    except ConnectionRefusedError:
        return False
    return True


def test_with_the_rules_of_the_page_one_address_leaves_room_for_others(configured: Path) -> None:
    page = (CHECKOUT / "docs/how-to/behind-nginx.md").read_text(encoding="utf-8")
    rules = [
        shlex.split(line)
        for block in read_blocks(page)
        for line in block.text.splitlines()
        if line.startswith(("iptables", "ip6tables"))
    ]
    [most] = {int(rule[rule.index("--connlimit-above") + 1]) for rule in rules}
    ports = {port: int(port) for port in PORTS}
    configuration = write_configuration(configured, ports, "site.conf")
    with running_hosts(ADDRESSES) as hosts, ExitStack() as stack:
        for rule in rules:
            hosts["nginx"].run(*rule)
        command = [*hosts["nginx"].launcher, "nginx", "-c", str(configuration), "-g", "daemon off;"]
        nginx = stack.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        stack.callback(nginx.terminate)
        wait_until(lambda: nginx.poll() is not None or can_connect(hosts["visitor"], stack))
        assert nginx.poll() is None
        opened = [can_connect(hosts["many"], stack) for _ in range(most + 20)]
        assert opened == [True] * most + [False] * 20
        assert can_connect(hosts["visitor"], stack)
