"""Where taskapp runs as root: the account that PostgreSQL runs as, and its access to folders.

PostgreSQL refuses to run as root. Its account gets an entry in the POSIX access control list of
each folder that it could not enter otherwise; the permissions of all others stay as they are.
"""

import errno
import fcntl
import functools
import logging
import operator
import os
import pwd
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

USER_NAME = "taskapp"
_USERS = Path("/etc/passwd")
_STATUS, _UID_MAP = Path("/proc/self/status"), Path("/proc/self/uid_map")
_TO_CHANGE_USER = 1 << 0 | 1 << 6 | 1 << 7  # CAP_CHOWN, CAP_SETGID, CAP_SETUID

_logger = logging.getLogger(__name__)

_SEARCH, _READ = 1, 4
_ATTRIBUTE = "system.posix_acl_access"
_VERSION = struct.pack("<I", 2)
# The tags of acl(5), in the order in which the kernel wants the entries.
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_MASKED = (_USER, _GROUP_OBJ, _GROUP)
_NO_ID = 0xFFFFFFFF


class FolderAccessError(Exception):
    """PostgreSQL's account can't be made, or can't reach a folder; the message says the fix."""


class UnixUser(NamedTuple):
    """A user and its group, by number."""

    uid: int
    gid: int


class _Entry(NamedTuple):
    tag: int
    permissions: int
    id: int = _NO_ID


def postgres_account(cluster: Path) -> UnixUser | None:
    """Return the account that PostgreSQL has to run as; None unless this process is root.

    It is the owner of the cluster folder, else the system user `taskapp`, which is created if it
    does not exist. Raises FolderAccessError if it cannot be created.
    """
    if os.geteuid() != 0 or not can_change_user():
        return None
    if cluster.exists() and (owner := cluster.stat()).st_uid != 0:
        return UnixUser(owner.st_uid, owner.st_gid)
    if not _user_exists():
        # Two first starts at once would each make one, and one of the two would be lost.
        with _USERS.open("rb") as users:
            fcntl.flock(users, fcntl.LOCK_EX)
            if not _user_exists():
                _make_user()
    entry = pwd.getpwnam(USER_NAME)
    return UnixUser(entry.pw_uid, entry.pw_gid)


def needs_another_number(account: UnixUser | None) -> bool:
    """Return whether PostgreSQL cannot run as this process: as root, who cannot change the user.

    Then it runs in a user namespace of its own, in which this user has another number.
    """
    return account is None and os.geteuid() == 0


def needs_a_name(account: UnixUser | None) -> bool:
    """Return whether initdb, which asks for the name of its user, finds none in /etc/passwd."""
    try:
        return account is None and not pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return True


def can_change_user() -> bool:
    """Return whether root has the capabilities for it, and there are other users.

    In a container it may lack the capabilities (capabilities(7)); in a user namespace the others
    (user_namespaces(7)).
    """
    try:
        users = _UID_MAP.read_text(encoding="ascii").split()[2::3]
        status = _STATUS.read_text(encoding="ascii", errors="replace")  # with our own name
        [capabilities] = re.findall(r"^CapEff:\s*(\w+)$", status, re.MULTILINE)
    except OSError:  # no Linux, or no /proc
        return True
    is_capable = int(capabilities, 16) & _TO_CHANGE_USER == _TO_CHANGE_USER
    return is_capable and sum(map(int, users)) > 1


def _user_exists() -> bool:
    try:
        pwd.getpwnam(USER_NAME)
    except KeyError:
        return False
    return True


def chown_tree(account: UnixUser, tree: Path) -> None:
    """Make the account the owner of a folder and all below it.

    Raises FolderAccessError for a link of a user who is not root: it may lead to files of root.
    """
    if tree.is_symlink() and (owner := tree.lstat().st_uid) != 0:
        raise FolderAccessError(f"{tree} is a link of user {owner}. Remove it.")
    for path in [tree, *tree.rglob("*")]:
        os.chown(path, *account, follow_symlinks=False)


def grant_traverse(account: UnixUser, targets: Iterable[Path]) -> None:
    """Let the account pass through every parent folder of the targets, and log each change.

    Raises FolderAccessError, which names the folder that cannot be opened.
    """
    parents = sorted({parent for target in targets for parent in target.parents})
    opened = [str(parent) for parent in parents if _open(account, parent, _SEARCH)]
    if opened:
        names = ", ".join(opened)
        _logger.info("Let user %d, which runs PostgreSQL, pass through %s", account.uid, names)


def grant_read(account: UnixUser, trees: Iterable[Path], *, probe: Path) -> None:
    """Let the account read folders of programs, unless it can read `probe`, a file in one of them.

    With a umask of 027 or 077, root installs them for itself only. Raises FolderAccessError.
    """
    if _may(account, probe, _READ | _SEARCH):
        return
    for tree in trees:
        for path in [tree, *tree.rglob("*")] if tree.exists() else []:
            is_program = path.stat().st_mode & 0o100
            _open(account, path, _READ | _SEARCH if is_program else _READ)
        _logger.info("Let user %d, which runs PostgreSQL, read %s", account.uid, tree)


def _make_user() -> None:
    useradd = ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"]
    adduser = ["-S", "-D", "-H", "-s", "/sbin/nologin"]  # busybox, as in Alpine
    for name, options in (("useradd", useradd), ("adduser", adduser)):
        if path := shutil.which(name):
            command = [path, *options, USER_NAME]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # fixed words
            reason = done.stderr.strip() or f"{name} ended with {done.returncode}"
            break
    else:
        reason = "there is neither useradd nor adduser"
    if not _user_exists():
        raise FolderAccessError(
            f"PostgreSQL can't run as root, and its user {USER_NAME} could not be made ({reason}). "
            f"Make that user, or run taskapp as an ordinary user."
        )


def _open(account: UnixUser, path: Path, wanted: int) -> bool:
    """Grant permissions that the account lacks; return whether it lacked any."""
    if _may(account, path, wanted):
        return False
    try:
        _grant(account, path, wanted)
        refusal = None if _may(account, path, wanted) else "it belongs to that user, who may not"
    except OSError as error:
        refusal = error.strerror
    if refusal:
        raise FolderAccessError(
            f"PostgreSQL can't run as root, and its user {account.uid} can't get into {path} "
            f"({refusal}). Set TASKAPP_DATA_DIR to, or install taskapp in, a folder that other "
            f"users may pass through, or run it as an ordinary user."
        )
    return True


def _may(account: UnixUser, path: Path, wanted: int) -> bool:
    """Return what the kernel decides: the first class of entries that matches counts (acl(5))."""
    status = path.stat()
    entries = _read_entries(path)
    mask = next((entry.permissions for entry in entries if entry.tag == _MASK), 7)
    groups = [
        entry.permissions & mask
        for entry in entries
        if (entry.tag == _GROUP_OBJ and status.st_gid == account.gid)
        or (entry.tag == _GROUP and entry.id == account.gid)
    ]
    by_name = [e.permissions & mask for e in entries if e.tag == _USER and e.id == account.uid]
    if account.uid == status.st_uid:
        granted = [status.st_mode >> 6]
    else:
        granted = by_name or groups or [status.st_mode]
    return any(permissions & wanted == wanted for permissions in granted)


def _grant(account: UnixUser, path: Path, wanted: int) -> None:
    """Add the account to the access control list; the permissions of others stay as they are."""
    if sys.platform != "linux":
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    entries = _read_entries(path)
    mask = next((entry.permissions for entry in entries if entry.tag == _MASK), 7)
    # Permissions that the old mask withheld are removed: the new mask would grant them.
    granted = {
        (tag, id_): permissions & (mask if tag in _MASKED else 7)
        for tag, permissions, id_ in entries
        if tag != _MASK
    }
    granted[_USER, account.uid] = granted.get((_USER, account.uid), 0) | wanted
    masked = (permissions for (tag, _), permissions in granted.items() if tag in _MASKED)
    granted[_MASK, _NO_ID] = functools.reduce(operator.or_, masked)
    packed = b"".join(
        struct.pack("<HHI", tag, permissions, id_)
        for (tag, id_), permissions in sorted(granted.items())
    )
    os.setxattr(path, _ATTRIBUTE, _VERSION + packed)


def _read_entries(path: Path) -> list[_Entry]:
    if sys.platform == "linux":
        try:
            packed = os.getxattr(path, _ATTRIBUTE)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOTSUP):
                raise
        else:
            fields = struct.iter_unpack("<HHI", packed[len(_VERSION) :])
            return [_Entry(*entry) for entry in fields]
    mode = path.stat().st_mode
    return [
        _Entry(_USER_OBJ, mode >> 6 & 7),
        _Entry(_GROUP_OBJ, mode >> 3 & 7),
        _Entry(_OTHER, mode & 7),
    ]
