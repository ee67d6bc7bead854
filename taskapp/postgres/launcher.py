"""Sets user, niceness and parent-death signal of its process, then executes a PostgreSQL program.

It stands in for a preexec_fn, which is unsafe beside threads (Python warns of it since 3.12). It
runs as a script and imports nothing of taskapp, so that it starts fast. Its arguments: the process
id of taskapp, the user, the group, the niceness, and the command.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_SIGINT = 2  # a fast shutdown of PostgreSQL


def launch(parent: int, uid: int, gid: int, niceness: int, command: list[str]) -> None:
    """Execute the command as that user; on Linux it gets SIGINT when the parent ends."""
    libc = ctypes.CDLL(None)
    os.nice(niceness)
    if uid:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After the change of user, which resets it.
        libc.prctl(_PR_SET_PDEATHSIG, _SIGINT)
        if os.getppid() != parent:
            sys.exit("the parent process has ended")
    os.execv(command[0], command)  # noqa: S606  # its purpose


if __name__ == "__main__":
    parent, uid, gid, niceness = map(int, sys.argv[1:5])
    launch(parent, uid, gid, niceness, sys.argv[5:])
