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

from tests.deploy.cluster import ENVIRONMENT, Cluster, cluster_of_machines
from tests.deploy.machines import CONTROL_GROUPS, CannotRun, remove_control_group

RUNNING = Path("/run/taskapp-cluster")  # process id, switch and folder of the one that runs
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, cluster-down, a closed terminal
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


def watch(cluster: Cluster) -> None:
    """Print who is primary whenever that changes, until Ctrl-C."""
    shown = ""
    while True:
        if (state := state_of(cluster)) != shown:
            tell(f"{time.strftime('%H:%M:%S')}  {state}")
            shown = state
        time.sleep(1)


def serve() -> int:
    if RUNNING.exists():
        tell("A cluster of `make cluster` is there; make cluster-down removes it.")
        return 1
    tell("Starting four machines, and setting them up; this takes some minutes ...")
    try:
        with cluster_of_machines(backups=True) as cluster:
            network = cluster.network
            RUNNING.write_text(f"{os.getpid()} {network.bridge} {network.folder}\n")
            tell(f"What is being done:  tail -f {network.folder}/site.yml.log")
            try:
                cluster.start()
                cluster.play("site.yml")
                tell(describe(cluster))
                watch(cluster)
            except KeyboardInterrupt:
                for number in STOPPING:  # once is enough
                    signal.signal(number, signal.SIG_IGN)
                tell("Removing the machines ...")
    finally:
        RUNNING.unlink(missing_ok=True)
    return 0


def take_down() -> int:
    if not RUNNING.exists():
        tell("No cluster of `make cluster` is there.")
        return 0
    pid, bridge, folder = RUNNING.read_text().split()
    while is_serving(pid):
        os.kill(int(pid), signal.SIGTERM)
        time.sleep(0.5)
    # If it was killed before, its machines have ended with it, and this is left.
    subprocess.run(["ip", "link", "delete", bridge], check=False, capture_output=True)
    for pattern in (f"{bridge}-*", f"*/{bridge}-*"):
        for group in CONTROL_GROUPS.glob(pattern):
            remove_control_group(group)
    shutil.rmtree(folder, ignore_errors=True)
    RUNNING.unlink(missing_ok=True)
    return 0


def is_serving(pid: str) -> bool:
    """Return whether a process is that of `make cluster`, and not a later one with its number."""
    with suppress(OSError):
        return b"serve_cluster" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def main(arguments: list[str]) -> int:
    """Serve, or remove what is left; return the exit code."""
    for number in STOPPING:
        signal.signal(number, signal.default_int_handler)
    try:
        return take_down() if arguments == ["down"] else serve()
    except CannotRun as error:
        tell(f"make cluster: {error}")
        return 1
    except KeyboardInterrupt:
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
