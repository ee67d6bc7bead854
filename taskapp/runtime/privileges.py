"""Root works in nobody else's folder: it becomes the user to whom the data folder belongs."""

import os
import pwd
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from taskapp.config.installation import HOME
from taskapp.postgres.permissions import can_change_user

_MAX_LINKS = 40  # Linux follows as many (path_resolution(7))
# The one file has no folder of packages.
_PROGRAM = [
    path for path in (HOME / "templates", Path(sysconfig.get_path("purelib"))) if path.exists()
]


def step_down(data_dir: Path) -> None:
    """Become the owner of a data folder, for good, if this process is root and the owner is not.

    Whoever owns a folder can replace what is in it by links, and root would follow them. Of a
    folder that is not there yet, the owner of the folder above it counts; of one to which a link of
    another user leads, wherever it stands in the path, that user.

    Root that can become nobody else, as in a container without capabilities, stays what it is: it
    has no more rights in the folders of others than they give it. It exits if the owner may not
    read this program.
    """
    if os.geteuid() != 0 or not can_change_user():
        return
    owner = _find_owner(data_dir)
    if owner.st_uid == 0:
        return
    try:
        account = pwd.getpwuid(owner.st_uid)
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
    except KeyError:  # as in a container
        os.setgroups([])
        os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
    if not all(os.access(folder, os.R_OK | os.X_OK) for folder in _PROGRAM):
        sys.exit(
            f"The data folder {data_dir} belongs to user {owner.st_uid}, who may not read the "
            f"program in {HOME}. Install it where that user can read it."
        )


def _find_owner(folder: Path) -> os.stat_result:
    for link in _links_on_the_way(folder.absolute()):
        if link.st_uid != 0:
            return link
    for path in (folder, *folder.parents):
        try:
            link = path.lstat()
        except OSError:  # it is not there, below a file, or too long to be there
            continue
        if link.st_uid != 0:
            return link
        with suppress(OSError):  # a link of root's that leads nowhere
            return path.stat()
    raise FileNotFoundError(folder)


def _links_on_the_way(path: Path) -> Iterator[os.stat_result]:
    """Yield the links that lead to a path, in the order in which the kernel follows them."""
    for _ in range(_MAX_LINKS):
        for part in (*reversed(path.parents), path):
            if os.path.islink(part):  # noqa: PTH114  # Path's raises for a path that is too long
                yield part.lstat()
                path = part.parent / part.readlink() / path.relative_to(part)
                break
        else:
            return
