"""What we depend on: why, under which licence, in which very files; and no secret in any file."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
LOCKS = ("requirements.lock", "requirements-dev.lock")
PERMISSIVE = re.compile(
    r"MIT( License)?|ISC|BSD( License)?|BSD-[23]-Clause|Apache( Software License|-2\.0)|PSF-2\.0"
    r"|The Unlicense \(Unlicense\)"
)
PINNED = re.compile(r"^([a-z0-9._-]+)(?:\[.*\])?==[^\n]*\n(?:    --[^\n]*\n)*", re.MULTILINE)
FIND = Path(sys.executable).with_name("detect-secrets-hook")
LESSER = {"psycopg2-binary"}  # LGPL with exceptions; docs/licences.md says what that means


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~ ;\[]", text)[0].lower() for text in requirements}


def locked(lock: str) -> dict[str, str]:
    """Return what a lock says of each package, without comments."""
    text = (CHECKOUT / lock).read_text(encoding="utf-8")
    return {
        match[1]: match[0]
        for match in re.finditer(
            r"^([a-z0-9._-]+)(?:\[.*\])?==[^\n]*\n(?:    --[^\n]*\n)*", text, re.MULTILINE
        )
    }


def licences() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences", CHECKOUT / "deploy" / "licences.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_dependencies_is_the_real_one() -> None:
    guide = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = guide.partition("## Dependencies")[2]
    rows = re.findall(r"^\| ([a-z0-9, -]+) \| (.+) \|$", table, re.MULTILINE)
    explained = [name for packages, _ in rows for name in packages.split(", ") if name != "package"]
    assert len(explained) == len(set(explained))
    assert set(explained) == names(PROJECT["dependencies"])
    assert all(reason for _, reason in rows)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_dependency_is_pinned_by_its_hash(lock: str) -> None:
    packages = locked(lock)
    wanted = names(PROJECT["dependencies"])
    if lock != "requirements.lock":
        wanted |= names(PROJECT["optional-dependencies"]["dev"])
    assert wanted <= set(packages)
    for name, text in packages.items():
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", text), name
    text = (CHECKOUT / lock).read_text(encoding="utf-8")
    assert "http" not in re.sub(r"#.*", "", text)
    assert "--require-hashes" in (CHECKOUT / "Makefile").read_text()


def test_both_locks_agree() -> None:
    runtime, development = (locked(lock) for lock in LOCKS)
    for name, text in runtime.items():
        assert text.partition("==")[2] == development[name].partition("==")[2], name


def test_the_list_of_licences_is_the_real_one() -> None:
    module = licences()
    assert module.DOCUMENT.read_text(encoding="utf-8") == module.render()


def test_every_licence_lets_everybody_do_everything() -> None:
    module = licences()
    for name in locked("requirements.lock"):
        parts = re.split(r" (?:AND|OR) |, ", module.licence_of(name))
        assert name in LESSER or all(PERMISSIVE.fullmatch(part) for part in parts), (name, parts)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("tests/x.py", 'aws = "AKIA' + 'IOSFODNN7EXAMPLF"'),
        ("tests/x.py", "-----BEGIN RSA PRIVATE" + " KEY-----"),
        ("server.py", 'url = "postgresql://alice:' + 'fhK3jsd8Qz@db.example.com/x"'),
        ("server.py", 'password = "correct' + 'horse9battery"'),
    ],
)
def test_a_secret_in_a_file_would_be_noticed(tmp_path: Path, name: str, line: str) -> None:
    for content, code in [("x = 1", 0), (line, 1)]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content + "\n", encoding="utf-8")
        found = subprocess.run(
            ["sh", CHECKOUT / "deploy" / "find_secrets.sh", FIND],
            cwd=tmp_path,
            input=name + "\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == code, found.stderr


CHECKSUMS = {"checksums.py"}  # of rows, to compare a backup with what it is of: against accidents


def test_no_weak_hash_is_used() -> None:
    for room in ("taskapp", "handlers", "schema"):
        for path in (CHECKOUT / room).rglob("*.py"):
            found = re.search(r"\b(md5|sha1|sha)\b|import random\b", path.read_text())
            assert not found or path.name in CHECKSUMS, path
