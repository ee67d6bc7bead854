"""Apache with mod_deflate or mod_brotli in front of taskapp: the version of a task survives it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.server_process import (
    Client,
    ServerProcess,
    new_data_folder,
    reserved_port,
    server_process,
    wait_until,
)

MODULES = ("mpm_event", "authz_core", "proxy", "proxy_http", "filter", "deflate", "brotli")
CONFIGURATION = """
{modules}
ServerRoot {folder}
ServerName localhost
PidFile {folder}/apache.pid
ErrorLog {folder}/error.log
Listen 127.0.0.1:{port}
User nobody
Group nogroup
DefaultRuntimeDir {folder}
ProxyPass / http://127.0.0.1:{behind}/
AddOutputFilterByType {filter} application/json
"""


@contextmanager
def apache(folder: Path, behind: str, filter_name: str) -> Iterator[str]:
    """Run Apache in front of a server, and yield its port."""
    folder.mkdir()
    modules = "\n".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in MODULES
    )
    with reserved_port() as port:
        configuration = folder / "apache.conf"
        configuration.write_text(
            CONFIGURATION.format(
                modules=modules, folder=folder, port=port, behind=behind, filter=filter_name
            )
        )
        command = ["apache2", "-f", str(configuration), "-DFOREGROUND"]
        with subprocess.Popen(command, env={"PATH": "/usr/sbin:/usr/bin"}) as running:
            try:
                with Client(str(port)) as client:
                    wait_until(
                        lambda: (
                            running.poll() is not None or client.status("/api/health/live") == 200
                        )
                    )
                assert running.poll() is None, (folder / "error.log").read_text()
                yield str(port)
            finally:
                running.terminate()


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with new_data_folder() as folder, server_process(folder) as running:
        running.wait_until_ready().client().register("alice@example.com")
        yield running


@pytest.mark.parametrize(
    ("filter_name", "coding", "suffix"),
    [("DEFLATE", "gzip", "-gzip"), ("BROTLI_COMPRESS", "br", "-br")],
)
def test_a_version_that_apache_has_changed_is_taken_back(
    server: ServerProcess, tmp_path: Path, filter_name: str, coding: str, suffix: str
) -> None:
    with apache(tmp_path / "apache", server.address, filter_name) as port, Client(port) as alice:
        alice.log_in("alice@example.com")
        made = alice.send("POST", "/api/tasks", {"title": "Tea", "description": "x" * 5000})
        path = f"/api/tasks/{made.json['id']}"
        shown = alice.send("GET", path, Accept_Encoding=coding)
        assert shown.headers["Content-Encoding"] == coding
        etag = shown.headers["ETag"]
        assert etag.endswith(f'{suffix}"')
        known = alice.send("GET", path, Accept_Encoding=coding, If_None_Match=etag)
        assert (known.status, known.body) == (304, b"")
        changed = alice.send("PUT", path, {"title": "Green tea"}, If_Match=etag)
        assert (changed.status, json.loads(changed.body)["title"]) == (200, "Green tea")
        assert alice.send("PUT", path, {"title": "Tea"}, If_Match=etag).status == 412
