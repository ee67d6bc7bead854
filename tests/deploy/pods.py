"""Runs objects of Kubernetes with `podman kube play`, which needs no cluster."""

import shutil
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # its stubs would be another package

from tests.deploy.containers import SERVICES, Engine

Object = dict[str, Any]
IMAGES = {"taskapp": "localhost/taskapp:latest", "redis": f"{SERVICES}:latest"}


def pod_of(found: Object) -> Object:
    """Return the pod that a Job or CronJob starts; podman knows neither."""
    spec = found["spec"].get("jobTemplate", found)["spec"]["template"]["spec"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": found["metadata"], "spec": spec}


class Pods:
    """What was played in a network."""

    def __init__(self, engine: Engine, network: str, secret: Path) -> None:
        """`secret` is the folder of what `kubectl create secret --from-file` takes."""
        self._engine, self._network, self._secret = engine, network, secret
        self._services: dict[str, str] = {}

    def play(self, *objects: Object) -> str:
        """Start a pod with the objects that it needs, and return the id of its one container."""
        path = self._engine.folder / "objects.yaml"
        path.write_text(yaml.safe_dump_all([self._playable(each) for each in objects]))
        options = ["--replace", f"--network={self._network}"]
        played = self._engine.run("kube", "play", *options, path).splitlines()
        return played[played.index("Container:") + 1]

    def _playable(self, found: Object) -> Object:
        """Return an object with the images that are here, and without what podman 4.3 cannot do.

        It writes Secrets as they are in the object, in base64, so files of a folder stand for one.
        """
        changed = deepcopy(found)
        pod = pod_template(changed)
        for container in pod.get("containers", []):
            name = container["image"].partition("@")[0].rpartition("/")[2].partition(":")[0]
            container["image"] = IMAGES[name]
        if "containers" in pod:
            names = self._services.items()
            pod["hostAliases"] = [{"ip": ip, "hostnames": [name]} for name, ip in names]
        for volume in pod.get("volumes", []):
            if secret := volume.pop("secret", None):
                files = Path(tempfile.mkdtemp(dir=self._engine.folder))
                files.chmod(0o755)
                every = [{"key": path.name, "path": path.name} for path in self._secret.iterdir()]
                for item in secret.get("items", every):
                    shutil.copy(self._secret / item["key"], files / item["path"])
                volume["hostPath"] = {"path": str(files), "type": "Directory"}
        return changed

    def serve(self, name: str, container: str) -> None:
        """Let later pods know a container by the name of its Service; podman has no Services."""
        self._services[name] = self.address(container)

    def address(self, container: str) -> str:
        """Return the address of a container's pod."""
        pod = self._engine.run("inspect", "--format={{.Pod}}", container)
        infra = self._engine.run("pod", "inspect", "--format={{.InfraContainerID}}", pod)
        networks = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return self._engine.run("inspect", f"--format={networks}", infra)

    def log(self, container: str) -> str:
        done = self._engine.try_to_run("logs", container)
        return done.stdout + done.stderr

    def completed(self, container: str) -> str:
        """Wait until a container has done its work, and return its log."""
        code, log = self._engine.exit_code(container), self.log(container)
        assert code == 0, log
        return log


def pod_template(found: Object) -> Object:
    """Return the part of a Pod or Deployment that describes the pod."""
    spec: Object = found.get("spec", {})
    return spec.get("template", {}).get("spec", spec)  # type: ignore[no-any-return]  # parsed YAML
