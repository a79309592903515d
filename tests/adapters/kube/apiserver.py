"""A real etcd and kube-apiserver on loopback, from KUBEBUILDER_ASSETS or PATH; each test has its own namespace."""

import asyncio
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

Tree = dict[str, Any]

ADMIN: Final = "admin"
TOKENS: Final = f"{ADMIN},admin,admin,system:masters\nnobody,nobody,nobody\npublisher,publisher,publisher\n"
START_SECONDS: Final = 90
PATHS: Final = {
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "Lease": "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
    "ModelAdapter": "/apis/model.aibrix.ai/v1alpha1/namespaces/{namespace}/modeladapters",
    "InferencePool": "/apis/inference.networking.k8s.io/v1/namespaces/{namespace}/inferencepools",
}
KINDS: Final = {
    "modeladapters": ("model.aibrix.ai", "v1alpha1", "ModelAdapter"),
    "inferencepools": ("inference.networking.k8s.io", "v1", "InferencePool"),
}
CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def binaries() -> tuple[str, str] | None:
    """Where etcd and kube-apiserver are, if both can be found."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")  # noqa: TID251 (the tests' own, named by envtest)
    path = os.pathsep.join(filter(None, (folder, os.environ.get("PATH", os.defpath))))  # noqa: TID251
    found = shutil.which("etcd", path=path), shutil.which("kube-apiserver", path=path)
    return (found[0], found[1]) if found[0] and found[1] else None


class ApiServer:
    """The two processes."""

    def __init__(self, programs: tuple[str, str], folder: Path, **flags: object) -> None:
        self._etcd, self._apiserver = programs
        self.folder = folder
        self._flags = flags
        self.port, self._etcd_port, self._peer_port = (_free_port() for _ in range(3))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def certificate(self) -> Path:
        return self.folder / "certificates" / "apiserver.crt"

    def start(self) -> None:
        """Start what does not run, and wait until it is ready."""
        if "etcd" not in self._processes:
            self._prepare()
            client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
            self._run(self._etcd, **{
                "name": "default", "data-dir": self.folder / "etcd", "listen-client-urls": client,
                "advertise-client-urls": client, "listen-peer-urls": peer, "initial-advertise-peer-urls": peer,
                "initial-cluster": f"default={peer}", "unsafe-no-fsync": "true", "log-level": "error",
            })  # fmt: skip
        self._run(self._apiserver, **{
            "etcd-servers": f"http://127.0.0.1:{self._etcd_port}", "secure-port": self.port,
            "bind-address": "127.0.0.1", "cert-dir": self.folder / "certificates",
            "service-cluster-ip-range": "10.96.0.0/24", "token-auth-file": self.folder / "tokens.csv",
            "authorization-mode": "RBAC", "disable-admission-plugins": "ServiceAccount",
            "service-account-issuer": "https://issuer.example", "service-account-key-file": self.folder / "key.pem",
            "service-account-signing-key-file": self.folder / "key.pem", "shutdown-delay-duration": "0s",
            **self._flags,
        })  # fmt: skip
        asyncio.run(self._wait_ready())

    def stop_server(self) -> None:
        """End the API server, not its data."""
        self._end(self._processes.pop("kube-apiserver"))

    def stop(self) -> None:
        """End both."""
        for name in ("kube-apiserver", "etcd"):
            process = self._processes.pop(name, None)
            if process is not None:
                self._end(process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()

    def _prepare(self) -> None:
        (self.folder / "tokens.csv").write_text(TOKENS, encoding="utf-8")
        subprocess.run(["openssl", "genrsa", "-out", self.folder / "key.pem", "2048"], check=True, capture_output=True)

    def _run(self, program: str, /, **flags: object) -> None:
        name = Path(program).name
        arguments = [program, *(f"--{flag}={value}" for flag, value in flags.items())]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(arguments, stdout=log, stderr=log, cwd=self.folder)

    async def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        async with aiohttp.ClientSession(headers={"authorization": f"Bearer {ADMIN}"}) as session:
            while True:
                try:
                    async with session.get(f"{self.url}/readyz", ssl=False) as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                if time.monotonic() > deadline or self._processes["kube-apiserver"].poll() is not None:
                    raise AssertionError(self.logs())
                await asyncio.sleep(0.1)

    def logs(self) -> str:
        """The end of what both said."""
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(self.folder.glob("*.log")))


@contextmanager
def api_server(programs: tuple[str, str], folder: Path, **flags: object) -> Iterator[ApiServer]:
    """A running API server, with flags more."""
    server = ApiServer(programs, folder, **flags)
    try:
        server.start()
        yield server
    finally:
        server.stop()


class RealCluster:
    """One namespace of a real API server."""

    def __init__(self, server: ApiServer, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session
        self.namespace = f"llm-{uuid.uuid4().hex[:8]}"

    async def prepare(self) -> None:
        """Make the namespace and the custom kinds."""
        await self._ask("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        for plural in KINDS:
            await self.install(plural)

    async def put(self, one: Tree) -> None:
        path, name = self._path(one), one["metadata"]["name"]
        metadata = {
            key: value for key, value in one["metadata"].items()
            if key in ("name", "labels", "annotations")
        } | {"namespace": self.namespace}  # fmt: skip
        body = one | {"metadata": metadata}
        if one["kind"] == "Pod":
            body["spec"] = one["spec"] | {"nodeName": "node0"}
        present = await self._ask("GET", f"{path}/{name}", allowed=(404,))
        if present.get("kind") == "Status":
            present = await self._ask("POST", path, body)
        else:
            kept = present["spec"] if one["kind"] in ("Pod", "Service") else body.get("spec")
            marks = present["metadata"] | {"labels": None, "annotations": None} | metadata
            changed = body | {"metadata": marks} | ({"spec": kept} if kept else {})
            present = await self._ask("PUT", f"{path}/{name}", changed)
        if "status" in one:
            await self._ask("PUT", f"{path}/{name}/status", present | {"status": one["status"]})

    async def delete(self, one: Tree) -> None:
        await self._ask("DELETE", f"{self._path(one)}/{one['metadata']['name']}", {"gracePeriodSeconds": 0})

    async def terminate(self, one: Tree) -> None:
        await self._ask("DELETE", f"{self._path(one)}/{one['metadata']['name']}", {"gracePeriodSeconds": 300})

    async def found(self, kind: str) -> list[Tree]:
        """What there is of a kind, in order of names."""
        answer = await self._ask("GET", PATHS[kind].format(namespace=self.namespace))
        return sorted(answer["items"], key=lambda one: str(one["metadata"]["name"]))

    async def permit(self, rules: list[Tree]) -> None:
        """Let the user `publisher` do this, and nothing else."""
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "publisher"}}
        await self._ask("POST", self._path(role), role | {"rules": rules})
        group = "rbac.authorization.k8s.io"
        binding = {
            "metadata": {"name": "publisher"},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "publisher"},
            "subjects": [{"kind": "User", "apiGroup": group, "name": "publisher"}],
        }
        await self._ask("POST", self._path({"kind": "RoleBinding"}), binding)

    async def install(self, plural: str, *, there: bool = True) -> None:
        group, version, kind = KINDS[plural]
        name = f"{plural}.{group}"
        if not there:
            await self._ask("DELETE", f"{CRDS}/{name}", allowed=(404,))
            await self._until(f"{CRDS}/{name}", "Status")
            return
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        versions = [{
            "name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}},
        }]  # fmt: skip
        names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
        spec = {"group": group, "scope": "Namespaced", "names": names, "versions": versions}
        approved = {"api-approved.kubernetes.io": "unapproved, a test"}  # asked of groups below k8s.io
        crd = {"metadata": {"name": name, "annotations": approved}, "spec": spec}
        await self._ask("POST", CRDS, crd, allowed=(409,))
        await self._until(PATHS[kind].format(namespace=self.namespace), f"{kind}List")

    async def _until(self, path: str, kind: str) -> None:
        async with asyncio.timeout(60):
            # 429: a new kind's storage is being made
            while (await self._ask("GET", path, allowed=(404, 429))).get("kind") != kind:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)

    def kubeconfig(self, folder: Path, *, token: str = "") -> Path:
        path = folder / "kubeconfig"
        cluster = {"server": self._server.url, "certificate-authority": str(self._server.certificate)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": self.namespace}}],
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token or ADMIN}}],
        }
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    async def go_away(self) -> None:
        await asyncio.to_thread(self._server.stop_server)

    async def come_back(self) -> None:
        await asyncio.to_thread(self._server.start)

    def _path(self, one: Tree) -> str:
        return PATHS[one["kind"]].format(namespace=self.namespace)

    async def _ask(self, method: str, path: str, body: Tree | None = None, *, allowed: tuple[int, ...] = ()) -> Tree:
        headers = {"authorization": f"Bearer {ADMIN}"}
        async with self._session.request(
            method, f"{self._server.url}{path}", json=body, headers=headers, ssl=False
        ) as response:
            if response.status >= 400 and response.status not in allowed:
                raise AssertionError(f"{method} {path}: {response.status} {await response.text()}")
            if response.content_type != "application/json":
                return {"kind": "Status", "code": response.status}
            answer: Tree = await response.json()
            return answer


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
