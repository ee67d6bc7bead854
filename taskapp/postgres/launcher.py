"""Runs between taskapp and a program of PostgreSQL, and becomes it.

A preexec_fn would do, but is unsafe (and, since Python 3.12, warned of) beside threads. It is run
by itself and imports nothing of ours, so that it starts fast. Its arguments: the process id of
taskapp, the user, the group and the niceness to take, and the command.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_SIGINT = 2  # a fast shutdown of PostgreSQL


def launch(parent: int, uid: int, gid: int, niceness: int, command: list[str]) -> None:
    """Become the command, as that user; on Linux it is to stop when the parent ends."""
    libc = ctypes.CDLL(None)
    os.nice(niceness)
    if uid:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After the change of user, which would undo it.
        libc.prctl(_PR_SET_PDEATHSIG, _SIGINT)
        if os.getppid() != parent:
            sys.exit("the process that wanted it has ended")
    os.execv(command[0], command)  # noqa: S606  # that is what it is for


if __name__ == "__main__":
    parent, uid, gid, niceness = map(int, sys.argv[1:5])
    launch(parent, uid, gid, niceness, sys.argv[5:])
