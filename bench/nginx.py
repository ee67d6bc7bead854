"""Runs nginx with the configuration of deploy/nginx/, without HTTPS and limits."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.processes import end
from bench.servers import CHECKOUT, Server, reserved_port, wait_until_ready
from taskapp.cli.common import CliError

_SYSTEM_PROGRAMS = (
    "/usr/sbin"  # Debian's folder of nginx, which is not on the PATH of ordinary users
)
_SHIPPED = CHECKOUT / "deploy" / "nginx"
_CONFIGURATION = """{user}
worker_processes auto;
worker_rlimit_nofile 8192;
pid {folder}/nginx.pid;
error_log {folder}/nginx-errors.log warn;
events {{
    worker_connections 4096;
}}
http {{
    access_log {folder}/nginx.log;
    client_body_temp_path {folder}/nginx-bodies;
    proxy_temp_path {folder}/nginx-responses;
    fastcgi_temp_path {folder}/nginx-unused;
    uwsgi_temp_path {folder}/nginx-unused;
    scgi_temp_path {folder}/nginx-unused;
    {upstream}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            {proxy}
        }}
    }}
}}
"""


def find_nginx() -> str:
    """Return the path of the nginx program.

    Raises:
        CliError: nginx is not installed.
    """
    path = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PROGRAMS}")
    if not path:
        raise CliError("Point 7 needs nginx, which is missing; on Debian: apt install nginx")
    return path


@contextmanager
def running_nginx(folder: Path, ports: Sequence[int]) -> Iterator[Server]:
    """Run nginx in front of the servers on these ports while the block runs.

    Raises:
        CliError: nginx is not installed, or does not become ready.
    """
    with reserved_port() as port:
        configuration = folder / "nginx.conf"
        configuration.write_text(_configure(folder, port, ports), encoding="utf-8")
        log = folder / "nginx-errors.log"
        command = [find_nginx(), "-e", str(log), "-c", str(configuration), "-g", "daemon off;"]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                server = Server(port, process.pid)
                if not wait_until_ready(server):
                    raise CliError(f"nginx does not serve. Its log:\n{log.read_text()[-2000:]}")
                yield server
            finally:
                end(process)


def _configure(folder: Path, port: int, ports: Sequence[int]) -> str:
    members = "\n".join(rf"    server 127.0.0.1:{each}\1;" for each in ports)
    site = (_SHIPPED / "site.conf").read_text(encoding="utf-8")
    upstream = site[site.index("upstream taskapp {") : site.index("\n}") + 2]
    proxy = (_SHIPPED / "proxy.conf").read_text(encoding="utf-8")
    return _CONFIGURATION.format(
        user="user root;" if os.geteuid() == 0 else "",  # the owner of the folder
        folder=folder,
        port=port,
        upstream=re.sub(r"(?:    server \S+( [^;]+);\n?)+", members + "\n", upstream),
        proxy=re.sub(r"(?m)^limit_.*\n", "", proxy),
    )
