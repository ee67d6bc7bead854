"""Reads systemd's unit files, and confines a process like one of them.

As a program, `unit_files.py UNIT SOCKET COMMAND...` executes the command with the descriptor SOCKET
passed like systemd does (sd_listen_fds(3)), under the parts of the unit's hardening that an
ordinary process can set: no new privileges, the system call filter, and no writable and executable
memory. `-` instead of SOCKET passes none.
"""

import ctypes
import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path

FIRST_PASSED = 3  # the first descriptor that systemd passes
NONE_PASSED = "-"
SET_MDWE, SET_NO_NEW_PRIVS = 65, 38  # prctl(2)
REFUSE_EXEC_GAIN = 1
ALLOW = 0x7FFF0000  # seccomp(2)
REFUSE = 0x00050000 | errno.EPERM


def read_unit(path: Path) -> dict[str, list[str]]:
    """Return the values of each name, in file order."""
    values: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            values.setdefault(name, []).append(value)
    return values


def read_environment(path: Path, instance: str, credentials: Path) -> dict[str, str]:
    """Return the environment of a unit's instance whose credentials are files of a folder."""
    words = [word for line in read_unit(path)["Environment"] for word in shlex.split(line)]
    found = dict(word.split("=", 1) for word in words)
    specifiers = {"%i": instance, "%d": str(credentials)}
    for specifier, text in specifiers.items():
        found = {name: value.replace(specifier, text) for name, value in found.items()}
    return found


def allowed_calls(filters: list[str]) -> set[str]:
    """Return the names of the system calls that `SystemCallFilter=` lines allow."""
    allowed: set[str] = set()
    for line in filters:
        calls = set().union(*map(_calls_of, line.removeprefix("~").split()))
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    # Always allowed by systemd, which needs them to start a process.
    return allowed | _calls_of("@default")


def _calls_of(name: str) -> set[str]:
    """Return the calls of a group and its subgroups."""
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    words = [line.strip() for line in listed[1:] if line.strip() and line.strip()[0] != "#"]
    return set().union(*map(_calls_of, words))


def _confine(unit: dict[str, list[str]]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(seccomp.seccomp_init(REFUSE))
    # Before the filter applies, because reading the groups starts processes.
    for name in allowed_calls(unit["SystemCallFilter"]):
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # negative: does not exist on this architecture
            assert seccomp.seccomp_rule_add(rules, ALLOW, number, 0) == 0, name
    assert unit["MemoryDenyWriteExecute"] == unit["NoNewPrivileges"] == ["yes"]
    assert libc.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) == 0
    assert seccomp.seccomp_load(rules) == 0


def _pass_socket(passed: int) -> None:
    if passed != FIRST_PASSED:
        os.dup2(passed, FIRST_PASSED)
    os.set_inheritable(FIRST_PASSED, True)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")


def main(unit: str, passed: str, command: list[str]) -> None:
    _confine(read_unit(Path(unit)))
    if passed != NONE_PASSED:
        _pass_socket(int(passed))
    os.environ["WATCHDOG_PID"] = str(os.getpid())
    os.execv(command[0], command)  # noqa: S606  # to become the command is what it is for


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
