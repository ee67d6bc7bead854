"""`make cluster`: three machines and their backups on this one, until Ctrl-C.

`serve_cluster.py down` removes what is left of it, also of one that was killed.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.deploy.cluster import ENVIRONMENT, Cluster, running_cluster
from tests.deploy.machines import CONTROL_GROUPS, CannotRun, remove_control_group

RUNNING = Path("/run/taskapp-cluster")  # process id, switch and folder of the one that runs
MADE_OF = """
The site:        {site}  (its certificate is of {folder}/secrets/authority.pem)
On each machine: etcd, Patroni with PostgreSQL, Redis with Sentinel, HAProxy, taskapp, keepalived
Machines:        {machines}
A shell on one:  ssh -i {folder}/key root@{first}
Playbooks:       cd deploy/cluster; {ansible} -i {folder}/inventory.json upgrade-taskapp.yml

Ctrl-C, or make cluster-down, removes all of it.
"""


def tell(words: str) -> None:
    print(words, flush=True)  # noqa: T201  # a program that a person watches


def describe(cluster: Cluster) -> str:
    machines = ", ".join(f"{each.name} {each.address}" for each in cluster.all_machines)
    return MADE_OF.format(
        site=f"https://{cluster.address}/",
        folder=cluster.network.folder,
        machines=machines,
        first=cluster.machines[0].address,
        ansible=ENVIRONMENT / "bin" / "ansible-playbook",
    )


def state_of(cluster: Cluster) -> str:
    """Return a line that says who is primary, and who has the address."""
    primary, holder = cluster.primary(), cluster.holder()
    off = [machine.name for machine in cluster.machines if not machine.is_on]
    words = [
        f"primary: {primary.name if primary else 'none that accepts writes'}",
        f"address: {holder.name if holder else 'at none'}",
        *([f"off: {', '.join(off)}"] if off else []),
    ]
    return "   ".join(words)


def serve() -> int:
    tell("Starting four machines, and setting them up; this takes some minutes ...")
    with running_cluster(backups=True) as cluster:
        RUNNING.write_text(f"{os.getpid()} {cluster.network.bridge} {cluster.network.folder}\n")
        tell(describe(cluster))
        shown = ""
        try:
            while True:
                if (state := state_of(cluster)) != shown:
                    tell(f"{time.strftime('%H:%M:%S')}  {state}")
                    shown = state
                time.sleep(1)
        except KeyboardInterrupt:
            tell("Removing the machines ...")
        finally:
            RUNNING.unlink(missing_ok=True)
    return 0


def take_down() -> int:
    if not RUNNING.exists():
        tell("No cluster of `make cluster` is there.")
        return 0
    pid, bridge, folder = RUNNING.read_text().split()
    RUNNING.unlink()
    with suppress(ProcessLookupError):
        os.kill(int(pid), signal.SIGINT)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.1)
    # If it was killed before, its machines have ended with it, and this is left.
    subprocess.run(["ip", "link", "delete", bridge], check=False, capture_output=True)
    for group in CONTROL_GROUPS.glob(f"*/{bridge}-*"):
        remove_control_group(group)
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def main(arguments: list[str]) -> int:
    """Serve, or remove what is left; return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return take_down() if arguments == ["down"] else serve()
    except CannotRun as error:
        tell(f"make cluster: {error}")
        return 1
    except KeyboardInterrupt:
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
