"""Sets user, niceness and parent-death signal of its process, then executes a PostgreSQL program.

It stands in for a preexec_fn, which is unsafe beside threads (Python warns of it since 3.12). It
runs as a script and imports nothing of taskapp, so that it starts fast. Its arguments: the process
id of taskapp, the user, the group, the niceness, 1 to enter a user namespace, and the command.
"""

import ctypes
import os
import pwd
import sys

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
_SIGINT = 2  # a fast shutdown of PostgreSQL
_SIGKILL = 9


def launch(
    parent: int, uid: int, gid: int, niceness: int, in_namespace: int, command: list[str]
) -> None:
    """Execute the command as that user; on Linux it gets a signal when the parent ends.

    That is SIGINT. But initdb would empty its folder then, in which the next start is at work.
    """
    os.nice(niceness)
    if uid:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if in_namespace:
        _enter_namespace()
    if sys.platform == "linux":
        # After the change of user, which resets it.
        signal = _SIGKILL if command[0].endswith("/initdb") else _SIGINT
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal)
        if os.getppid() != parent:
            sys.exit("the parent process has ended")
    os.execv(command[0], command)  # noqa: S606  # its purpose


def _enter_namespace() -> None:
    """Enter a user namespace, in which this user has the number of a user with a name.

    PostgreSQL refuses root, and its initdb a user without a name. Files still get the number that
    this user has outside (user_namespaces(7)).
    """
    from pathlib import Path  # noqa: PLC0415  # slow to import, and rarely needed

    uid, gid = os.geteuid(), os.getegid()
    try:
        named = next(entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid != 0)
        _unshare_user()
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{named} {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
    except (OSError, AttributeError, StopIteration) as error:
        why = (
            f"user {uid} needs a line in /etc/passwd for it"
            if uid
            else "it refuses root, who cannot become another user here"
        )
        sys.exit(f"{why}, or a user namespace: {error}. Run taskapp as another user.")


def _unshare_user() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    parent, uid, gid, niceness, in_namespace = map(int, sys.argv[1:6])
    program = sys.argv[6]
    try:
        launch(parent, uid, gid, niceness, in_namespace, sys.argv[6:])
    except BlockingIOError as error:  # EAGAIN of setuid(2) and execve(2)
        sys.exit(
            f"{program} cannot be run: this user has too many processes ({error.strerror}). Raise "
            "the limit, by `ulimit -u` in a shell or LimitNPROC= in a unit of systemd."
        )
    except OSError as error:
        sys.exit(f"{program} cannot be run: {error.strerror}.")
