"""Runs pip in the environment of this Python, with these arguments.

Of the settings that a person has for pip, in PIP_* and in its files, only those count that say how
packages are reached. Others (user, target, prefix, root, python, dry-run, constraint, no-binary …)
would install elsewhere, something else or nothing, and the environment would stay empty.
"""

import ast
import os
import re
import subprocess
import sys
import time

LINE_INTERVAL = 10.0  # seconds
REACH = {
    *("index-url", "extra-index-url", "no-index", "find-links", "trusted-host", "proxy"),
    *("cert", "client-cert", "keyring-provider", "use-feature", "use-deprecated"),
    *("timeout", "default-timeout", "retries", "resume-retries", "cache-dir", "no-cache-dir"),
}
# As `pip config list` prints them; what comes later counts more.
SECTIONS = ("global", "install")
SETTING = re.compile(r"(global|install)\.([a-z-]+)=(['\"].*)")
# Without Python's own variables, and of this environment whatever pip's settings say.
PIP = (sys.executable, "-I", "-m", "pip", "--python", sys.executable)


def main() -> int:
    """Run pip, and return its exit code."""
    kept = {*map(variable, REACH)}
    environment = {
        name: text
        for name, text in os.environ.items()
        if name in kept or not name.startswith(("PIP_", "PYTHON"))
    }
    environment = settings_of_files(environment) | environment | {"PIP_CONFIG_FILE": os.devnull}
    quiet = ("--quiet", "--disable-pip-version-check")
    command = (*PIP, *sys.argv[1:], *quiet)
    with subprocess.Popen(command, env=environment) as pip:  # noqa: S603  # of make
        return wait_for(pip)


def wait_for(pip: subprocess.Popen[bytes]) -> int:
    """Write a line each `LINE_INTERVAL` seconds until pip ends, and return its exit code."""
    started = time.monotonic()
    while True:
        try:
            return pip.wait(LINE_INTERVAL)
        except subprocess.TimeoutExpired:
            sys.stderr.write(f"pip is at work: {time.monotonic() - started:.0f} seconds\n")


def settings_of_files(environment: dict[str, str]) -> dict[str, str]:
    """Return as variables what a person's files of pip say of reaching packages."""
    file = {name: os.environ[name] for name in ("PIP_CONFIG_FILE",) if name in os.environ}
    listed = subprocess.run(  # noqa: S603  # fixed words
        (*PIP, "config", "list", "-vvv"),  # as verbose as is necessary after `quiet = 3`
        env=environment | file,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    found = [
        match.groups() for match in map(SETTING.fullmatch, listed.stdout.splitlines()) if match
    ]
    found.sort(key=lambda setting: SECTIONS.index(setting[0]))
    return {
        variable(name): str(ast.literal_eval(value)) for _, name, value in found if name in REACH
    }


def variable(name: str) -> str:
    """Return the environment variable of a setting of pip."""
    return f"PIP_{name.upper().replace('-', '_')}"


if __name__ == "__main__":
    sys.exit(main())
