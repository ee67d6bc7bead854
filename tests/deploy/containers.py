"""Runs real containers, with podman in mount, process and network namespaces of its own.

No registry of images is reachable where these tests run. Base images are made of Debian's packages,
and stand for those that the Dockerfile and the compose file name. They and the layers of builds
are kept in ~/.cache/taskapp-tests. Containers, volumes and networks end with the tests.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.server_process import CHECKOUT

STAND_INS = Path(__file__).parent / "stand_ins"
DOCKERFILE = CHECKOUT / "Dockerfile"
[BASE] = {*re.findall(r"^FROM (python:\S+)", DOCKERFILE.read_text(), re.MULTILINE)}
SUITES = {"3.11": "bookworm", "3.13": "trixie"}  # of Debian, by the Python that each has
PYTHON = "localhost/taskapp-tests/python"
STAGE = "localhost/taskapp-tests/build"
SERVICES = "localhost/taskapp-tests/services"  # the image of PostgreSQL, Redis and nginx
# podman refuses cgroups of both versions beside each other, so it sees only the first.
# What a killed podman leaves in /dev/shm and /run, such as locks, would hold it up.
BEGIN = """
umount /sys/fs/cgroup/unified 2>/dev/null || true
for folder in /dev/shm /run/containers /run/crun /run/libpod; do
    mkdir -p "$folder"
    mount -t tmpfs tmpfs "$folder"
done
ip link set lo up
echo ready
exec sleep infinity
"""
STORAGE = """
[storage]
driver = "{driver}"
graphroot = "{cache}/storage"
runroot = "{folder}/run"
"""
# Only images are kept. Without the capability SYS_RESOURCE, podman cannot raise its limits.
SETTINGS = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{folder}/tmp"
volume_path = "{folder}/volumes"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""
PIP = """
[global]
cert = /etc/ssl/certs/ca-certificates.crt
"""


class Engine:
    """podman, and what it was started with."""

    def __init__(self, holder: int, folder: Path) -> None:
        """`holder` is the process of the namespaces; `folder` is for what is not kept."""
        self.folder = folder
        self._target = f"--target={holder}"
        self._environment = [
            f"CONTAINERS_STORAGE_CONF={folder}/storage.conf",
            f"CONTAINERS_CONF={folder}/containers.conf",
        ]

    def inside(self, *words: str | Path) -> list[str]:
        """Return the command that runs another in the network of the containers."""
        return ["nsenter", self._target, "--net", *map(str, words)]

    def status(self, url: str, *options: str) -> int:
        """Return the status of a response in the network of the containers; 0 if there is none."""
        words = ["curl", "--silent", "--max-time", "10", "--output", "/dev/null"]
        command = self.inside(*words, "--write-out", "%{http_code}", *options, url)
        return int(subprocess.run(command, capture_output=True, text=True, check=False).stdout)

    def command(self, *words: str | Path, host_network: bool = False) -> list[str]:
        """Return a command of podman, for which `--network=host` may be this machine's network."""
        namespaces = ["--mount", "--pid", *([] if host_network else ["--net"])]
        podman = ["env", *self._environment, "podman"]
        return ["nsenter", self._target, *namespaces, *podman, *map(str, words)]

    def run(self, *words: str | Path, host_network: bool = False, stdin: str = "") -> str:
        """Run podman, and return what it prints; a failure fails the test."""
        done = self.try_to_run(*words, host_network=host_network, stdin=stdin)
        assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def try_to_run(
        self, *words: str | Path, host_network: bool = False, stdin: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*words, host_network=host_network),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def build(self, name: str, context: Path, file: Path, *options: str) -> None:
        words = ["--format=docker", "--layers", "--pull=never", "--network=host", "--quiet"]
        named = ["--tag", name, "--file", str(file), str(context)]
        self.run("build", *words, *options, *named, host_network=True)

    def build_base(self) -> str:
        """Return the image that stands for the Dockerfile's, after making it if there is none."""
        [version] = re.findall(r"python:(3\.\d+)-slim", BASE)
        suite = SUITES[version]  # no release of Debian has another
        name = f"{PYTHON}:{version}"
        if self.try_to_run("image", "exists", name).returncode != 0:
            links = "; ".join(
                f'ln -s /usr/bin/python{version} "$1/usr/local/bin/{link}"'
                for link in ("python", "python3")
            )
            packages = f"ca-certificates,python{version},python{version}-venv"
            archive = self.folder / "base.tar"
            options = ["--quiet", "--variant=minbase", f"--include={packages}"]
            hook = f"--customize-hook={links}"
            done = subprocess.run(
                ["mmdebstrap", *options, hook, suite, str(archive), *mirrors()],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"No base image of Debian's packages: {done.stderr}"
            path = "ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
            self.run("import", "--quiet", "--change", path, archive, name)
            archive.unlink()
        self.run("tag", name, PYTHON)
        return name

    def build_taskapp(self) -> None:
        """Build the Dockerfile as it is, as the image `taskapp`."""
        replaced = f"--build-context={BASE}=container-image://{self.build_base()}"
        index = os.environ.get("PIP_INDEX_URL")
        settings = PIP + (f"index-url = {index}\n" if index else "")
        (self.folder / "pip.conf").write_text(settings)
        mounted = [f"{self.folder}/pip.conf:/etc/pip.conf:ro", "/etc/ssl/certs:/etc/ssl/certs:ro"]
        options = [replaced, *(f"--volume={volume}" for volume in mounted)]
        # The first stage has a name too, so that its layers are kept.
        self.build(STAGE, CHECKOUT, DOCKERFILE, "--target=build", *options)
        self.build("localhost/taskapp", CHECKOUT, DOCKERFILE, *options)

    def build_services(self) -> None:
        """Build the image of PostgreSQL, Redis and nginx."""
        self.build(SERVICES, STAND_INS, STAND_INS / "services.Containerfile")

    def exit_code(self, container: str) -> int:
        """Wait for the end of a container."""
        return int(self.run("wait", container))

    def remove_all(self) -> None:
        """Remove pods, containers, volumes, and images that no name leads to."""
        self.try_to_run("stop", "--all", "--time=1")
        self.run("pod", "rm", "--all", "--force")
        self.run("rm", "--all", "--force")
        self.run("volume", "rm", "--all", "--force")
        self.run("image", "prune", "--force")


def mirrors() -> list[str]:
    """Return the mirror of Debian that this machine's apt uses, or nothing for the usual one."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [uri for uri in found if uri.endswith("/debian/")][:1]


@contextmanager
def running_engine() -> Iterator[Engine]:
    """Run podman in new namespaces with the images of earlier runs; one run at a time."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(home, "taskapp-tests", "containers")
    cache.mkdir(parents=True, exist_ok=True)
    # Ends with this process, however that ends, and takes all containers with it.
    words = [
        "setpriv",
        "--pdeathsig=SIGKILL",
        "unshare",
        "--mount",
        "--pid",
        "--net",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]
    with (
        (cache / "lock").open("a") as lock,
        tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as name,
        subprocess.Popen(
            [*words, "--propagation=private", "sh", "-c", BEGIN], stdout=subprocess.PIPE, text=True
        ) as outer,
    ):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert outer.stdout is not None
            assert outer.stdout.readline() == "ready\n", "no namespaces for containers"
            children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text()
            folder = Path(name)
            kind = subprocess.check_output(
                ["stat", "-f", "-c", "%T", str(cache)], text=True
            ).strip()
            driver = "vfs" if kind == "overlayfs" else "overlay"
            (folder / "storage.conf").write_text(
                STORAGE.format(driver=driver, cache=cache, folder=folder)
            )
            (folder / "containers.conf").write_text(SETTINGS.format(folder=folder))
            (folder / "networks").mkdir()
            engine = Engine(int(children.split()[0]), folder)
            # An earlier run's database, with other folders. Were it elsewhere, what podman starts
            # at the end of a container would not find it, and podman would wait for 20 seconds.
            shutil.rmtree(cache / "storage" / "libpod", ignore_errors=True)
            # Those of a run that was killed are no containers, but are still in the storage.
            left = engine.run("ps", "--all", "--external", "--quiet").split()
            if left:
                engine.run("rm", "--force", *left)
            yield engine
            engine.remove_all()
        finally:
            outer.kill()
