"""taskapp runs on Python from 3.11.0 on, the first patch release of the oldest version.

mypy reads the library as it is in 3.11, but knows no patch releases. What Python's documentation
dates to one of them ("Added in version 3.11.4") is listed here. What only behaves differently is
tested by `make test-python` on the interpreters of a machine, Debian's 3.11.2 among them:

- archives, as tarfile's default filter changes with 3.14 (tests/backups/test_base_archives.py);
- URLs, as urlsplit checks a host in brackets from 3.11.4 on (tests/config/test_settings.py);
- addresses such as ::ffff:127.0.0.1, which are loopback from 3.13 on (tests/cli/test_doctor.py);
- timeouts, as one that a cancelled task begins raises CancelledError before 3.11.3 (python/cpython
  102780): a stop sets an event and cancels no task that uses one (tests/runtime).
"""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SOURCES = [
    CHECKOUT / "server.py",
    *(
        path
        for folder in ("deploy", "handlers", "schema", "taskapp")
        for path in sorted((CHECKOUT / folder).rglob("*.py"))
    ),
]
NEW: dict[object, str] = {
    **dict.fromkeys(["data_filter", "tar_filter", "fully_trusted_filter"], "tarfile, 3.11.4"),
    **dict.fromkeys(["AbsolutePathError", "OutsideDestinationError"], "tarfile, 3.11.4"),
    **dict.fromkeys(["SpecialFileError", "LinkOutsideDestinationError"], "tarfile, 3.11.4"),
    "FilterError": "tarfile, 3.11.4",
    "LinkFallbackError": "tarfile, 3.11.13",
    "ALLOW_MISSING": "os.path, 3.11.13",
    "SetReparseDeferralEnabled": "xml.parsers.expat, 3.11.9",
    "GetReparseDeferralEnabled": "xml.parsers.expat, 3.11.9",
    "verify_generated_headers": "email.policy, 3.11.10",
    # Parameters, by the name of the function.
    ("extract", "filter"): "tarfile, 3.11.4",
    ("extractall", "filter"): "tarfile, 3.11.4",
    ("unpack_archive", "filter"): "shutil, 3.11.4",
    ("getaddresses", "strict"): "email.utils, 3.11.10",
    ("parseaddr", "strict"): "email.utils, 3.11.10",
    ("HTMLParser", "scripting"): "html.parser, 3.11.15",
}


def find_new_parts(text: str) -> list[str]:
    """Return what the text uses of the library that 3.11.0 does not have."""
    parts = [part for node in ast.walk(ast.parse(text)) for part in parts_of(node)]
    return [f"{part}: {NEW[part]}" for part in parts if part in NEW]


def parts_of(node: ast.AST) -> Iterator[object]:
    if isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.ImportFrom):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.Call):
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        for keyword in node.keywords:
            yield keyword.arg
            yield called, keyword.arg


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_nothing_is_used_that_came_with_a_patch_release(path: Path) -> None:
    assert find_new_parts(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "archive.extractall(folder, filter='data')",
        "from tarfile import data_filter",
        "tarfile.FilterError",
        "realpath(path, strict=os.path.ALLOW_MISSING)",
        "policy.clone(verify_generated_headers=True)",
        "parseaddr(text, strict=True)",
    ],
)
def test_its_use_would_be_noticed(text: str) -> None:
    assert find_new_parts(text)


def test_the_types_and_the_style_are_those_of_the_oldest_version() -> None:
    everything = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    assert everything["project"]["requires-python"] == ">=3.11"
    assert everything["tool"]["mypy"]["python_version"] == "3.11"
    assert everything["tool"]["ruff"]["target-version"] == "py311"


def test_make_test_python_installs_whatever_the_core_of_the_tests_starts() -> None:
    packages = (CHECKOUT / "tests" / "system_packages.sh").read_text()
    package_of = dict(re.findall(r'command -v (\S+) .*\$missing (\S+)"', packages))
    said = subprocess.run(
        ["/bin/sh", "tests/system_packages.sh", "python"],
        cwd=CHECKOUT,
        env={"PATH": "/nowhere"},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    ).stderr
    started = {
        node.value
        for path in _core()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in package_of
    }
    assert "redis-server" in started
    assert {package_of[name] for name in started} <= set(said.split())


def _core() -> Iterator[Path]:
    """Yield the files of the tests that run on each Python."""
    makefile = (CHECKOUT / "Makefile").read_text().replace("\\\n", "")
    (core,) = re.findall(r"^CORE := (.*)$", makefile, re.MULTILINE)
    for name in core.split():
        path = CHECKOUT / name
        yield from path.rglob("*.py") if path.is_dir() else [path]
