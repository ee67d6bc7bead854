"""Runs HAProxy with deploy/haproxy/haproxy.cfg; its paths and ports are those of a test."""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.certificates import make_authority, make_certificate
from tests.deploy.proxy import HOST, Proxy
from tests.support.server_process import CHECKOUT, wait_until

CONFIGURATION = CHECKOUT / "deploy" / "haproxy"


@contextmanager
def running_haproxy(folder: Path, ports: dict[int, int]) -> Iterator[Proxy]:
    """Run HAProxy with its ports and paths moved."""
    authority = make_authority(folder)
    certificate = make_certificate(folder, authority, HOST)
    (folder / "tls").mkdir()
    both = certificate.path.read_text() + certificate.key.read_text()
    (folder / "tls" / f"{HOST}.pem").write_text(both)
    text = (CONFIGURATION / "haproxy.cfg").read_text()
    text = text.replace("/etc/haproxy/errors", str(CONFIGURATION / "errors"))
    text = text.replace("/etc/haproxy/tls", str(folder / "tls"))
    text = text.replace("/run/haproxy/admin.sock", str(folder / "admin.sock"))
    text = re.sub(r"(?<=:)(\d+)\b", lambda match: str(ports[int(match[1])]), text)
    text = text.replace("bind :", "bind 127.0.0.1:")  # where the ports are reserved
    (folder / "haproxy.cfg").write_text(text)
    with (
        (folder / "error.log").open("wb") as log,
        subprocess.Popen(["haproxy", "-f", folder / "haproxy.cfg"], stdout=log, stderr=log) as run,
    ):
        try:
            proxy = Proxy(folder, ports[80], ports[443], authority)
            wait_until(
                lambda: run.poll() is not None or proxy.curl("/api/health/ready").status != 0
            )
            assert run.poll() is None, proxy.log()
            yield proxy
        finally:
            run.send_signal(signal.SIGTERM)
