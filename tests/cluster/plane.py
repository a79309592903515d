"""The control plane beside the API server: Kubernetes' controllers and Envoy Gateway, the real programs."""

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import yaml

from tests.adapters.kube.apiserver import ADMIN, ApiServer, binaries
from tests.cluster.container import start_contained
from tests.cluster.network import missing
from tests.manifests.built import KUBECTL

GATEWAY_NAMESPACE: Final = "envoy-gateway-system"
# Those that act on nodes without a heartbeat: they would mark every pod NotReady after a while, and collect it.
_OFF: Final = (
    "node-lifecycle-controller", "taint-eviction-controller", "pod-garbage-collector-controller",
    "node-ipam-controller", "node-route-controller", "cloud-node-lifecycle-controller", "service-lb-controller",
)  # fmt: skip
_CONFIGURATION: Final = {
    "apiVersion": "gateway.envoyproxy.io/v1alpha1",
    "kind": "EnvoyGateway",
    "gateway": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
    "provider": {
        "type": "Kubernetes",
        "kubernetes": {"leaderElection": {"disable": True}, "proxyTopologyInjector": {"disabled": True}},
    },
    "admin": {"address": {"host": "127.0.0.1", "port": 19500}},  # away from Envoy's, which shares the network
    "telemetry": {"metrics": {"prometheus": {"disable": True}}},
}


def lacking() -> str:
    """What is not there for such a cluster; empty: nothing."""
    if binaries() is None or not all(map(_found, ("kube-controller-manager", "envoy-gateway"))) or _crds() is None:
        return "no envoy-gateway or what it needs: `make kube-tools` builds it where Go is installed"
    return missing()


def _found(program: str) -> str | None:
    folder = os.environ.get("KUBEBUILDER_ASSETS")  # noqa: TID251 (the tests' own, named by envtest)
    path = os.pathsep.join(filter(None, (folder, os.environ.get("PATH", os.defpath))))  # noqa: TID251
    return shutil.which(program, path=path)


def _crds() -> Path | None:
    """Those of the Gateway API and of Envoy Gateway: `crds` in the folder of the programs, or beside it."""
    program = _found("envoy-gateway")
    places = [Path(program).parent / "crds", Path(program).parent.parent / "crds"] if program else []
    return next((place for place in places if place.is_dir()), None)


class ControlPlane:
    """Programs that are started one after the other, and ended together."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self._running: list[subprocess.Popen[bytes]] = []
        self.kubeconfig: Path  # the admin's, once the API server runs
        self.gateway: subprocess.Popen[bytes]  # Envoy Gateway's process, once it was started

    def start(self) -> None:
        """Start the controllers and Envoy Gateway, and wait until they are there."""
        self.kubeconfig = self.kubeconfig_of(ADMIN)
        controllers = _found("kube-controller-manager") or ""
        self._run("controllers", controllers, **{
            "kubeconfig": self.kubeconfig, "bind-address": "127.0.0.1", "leader-elect": "false",
            "service-account-private-key-file": self.server.folder / "key.pem",
            "root-ca-file": self.server.certificate, "use-service-account-credentials": "false",
            "controllers": ",".join(["*", *(f"-{name}" for name in _OFF)]),
            "kube-api-qps": 500, "kube-api-burst": 1000,
        })  # fmt: skip
        self.kubectl("apply", "--server-side", "-f", str(_crds()))
        self.kubectl("create", "namespace", GATEWAY_NAMESPACE)
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        self._start_gateway()

    def kubectl(self, *arguments: str) -> str:
        """As the admin; what it says."""
        ran = subprocess.run(
            [KUBECTL, f"--kubeconfig={self.kubeconfig}", *arguments], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, f"{arguments}: {ran.stderr}"
        return ran.stdout

    def stop(self) -> None:
        """End what was started."""
        for process in self._running:
            process.kill()
            process.wait()

    def kubeconfig_of(self, token: str) -> Path:
        """A kubeconfig for whoever has this token."""
        place = self.folder / f"{token}.kubeconfig"
        cluster = {"server": self.server.url, "certificate-authority": str(self.server.certificate)}
        content = {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
        }  # fmt: skip
        place.write_text(yaml.safe_dump(content), encoding="utf-8")
        return place

    def _start_gateway(self) -> None:
        gateway = _found("envoy-gateway") or ""
        made = subprocess.run(
            [gateway, "certgen", "--disable-topology-injector"], env=self._environment(), capture_output=True, text=True
        )
        assert made.returncode == 0, made.stderr
        self._certificates.mkdir()
        for name in ("tls.crt", "tls.key", "ca.crt"):
            found = self.kubectl(
                "-n", GATEWAY_NAMESPACE, "get", "secret", "envoy-gateway",
                "-o", f"go-template={{{{index .data \"{name}\" | base64decode}}}}",
            )  # fmt: skip
            (self._certificates / name).write_text(found, encoding="utf-8")
        self._serve()

    def restart_gateway(self, **extension_apis: bool) -> None:
        """Envoy Gateway anew, with these switches of its `extensionApis`."""
        self.gateway.kill()
        self.gateway.wait()
        self._running.remove(self.gateway)
        self._serve(**extension_apis)

    def _serve(self, **extension_apis: bool) -> None:
        configuration = self.folder / "envoy-gateway.yaml"
        content = _CONFIGURATION | {"extensionApis": extension_apis}
        configuration.write_text(yaml.safe_dump(content), encoding="utf-8")
        log = self.folder / "envoy-gateway.log"
        command = [_found("envoy-gateway") or "", "server", "--config-path", str(configuration)]
        self.gateway = start_contained(command, self._environment(), {"/certs": self._certificates}, log=log)
        self._running.append(self.gateway)
        _wait_for("http://127.0.0.1:8081/readyz", self.gateway, log)

    @property
    def _certificates(self) -> Path:
        return self.folder / "certs"

    def _environment(self) -> dict[str, str]:
        return {
            "KUBECONFIG": str(self.kubeconfig), "ENVOY_GATEWAY_NAMESPACE": GATEWAY_NAMESPACE,
            "HOME": str(self.folder),
        }  # fmt: skip

    def _run(self, name: str, program: str, /, **flags: object) -> None:
        arguments = [program, *(f"--{flag}={value}" for flag, value in flags.items())]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running.append(subprocess.Popen(arguments, stdout=log, stderr=log, cwd=self.folder))


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline or process.poll() is not None:
                raise AssertionError(log.read_text(errors="replace")[-3000:]) from None
            time.sleep(0.1)


@contextmanager
def control_plane(server: ApiServer, folder: Path) -> Iterator[ControlPlane]:
    """A running one."""
    plane = ControlPlane(server, folder)
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()
