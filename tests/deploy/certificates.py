"""Creates a certificate authority and certificates with openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, each in a file."""

    path: Path
    key: Path


def make_authority(folder: Path, name: str = "authority") -> Certificate:
    """Create a certificate that may sign others."""
    may_sign = ("-addext", "keyUsage=critical,keyCertSign")  # Python 3.13 and later ask for it
    return _make(folder, name, "-addext", "basicConstraints=critical,CA:TRUE", *may_sign)


def make_certificate(folder: Path, authority: Certificate, host: str) -> Certificate:
    """Create the certificate of a host, signed by an authority."""
    signed = ("-CA", str(authority.path), "-CAkey", str(authority.key))
    return _make(folder, host, "-addext", f"subjectAltName=DNS:{host}", *signed)


def _make(folder: Path, name: str, *options: str) -> Certificate:
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={name}", *options),
            *("-keyout", str(made.key), "-out", str(made.path)),
        ],
        check=True,
        capture_output=True,
    )
    return made
