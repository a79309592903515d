"""A cluster with the overlay `production`, set up as operations.md says, with PostgreSQL and an S3 server.

The overlay stays as it is but for what a copy of it says: simulated engines, one Envoy (both would listen at one
address here), an authority of our own for the worker.
"""

import asyncio
import contextlib
import io
import json
import re
import secrets
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import httpx2
import pytest
import pytest_asyncio
import yaml
from openai import AsyncOpenAI

from aibrix_extproc.cli.main import main
from tests.adapters.kube.apiserver import api_server, binaries
from tests.cluster.api import Admin, Tree
from tests.cluster.conftest import NAMESPACE, Cluster
from tests.cluster.network import NODE, own_network
from tests.cluster.node import ENVOYS_NAME, Node, PodLife
from tests.cluster.plane import GATEWAY_NAMESPACE, ControlPlane, control_plane, lacking
from tests.manifests.built import MANIFESTS
from tests.metadata.postgres import Server, server
from tests.metadata.s3_server import BUCKET, S3Server, s3_server
from tests.waiting import until

API: Final = "aibrix-extproc-metadata"
WORKER: Final = "aibrix-extproc-metadata-worker"
PROCESSOR: Final = "aibrix-extproc"
READY: Final = {PROCESSOR: 2, API: 2, WORKER: 2, "aibrix-extproc-redis": 1}
PREFIX: Final = "metadata"
AUTHORITY: Final = "/etc/aibrix-extproc/authority"
# What the Prometheus operator brings. Their fields are held to its schemas by tests/manifests.
OPERATOR: Final = {"ServiceMonitor": "servicemonitors", "PrometheusRule": "prometheusrules"}


@dataclass(frozen=True, slots=True)
class Production:
    """What a test works with."""

    cluster: Cluster
    postgres: Server
    s3: S3Server
    key: str
    tls: ssl.SSLContext

    @property
    def inside(self) -> aiohttp.ClientSession:
        """For addresses of the cluster."""
        return self.cluster.session

    @property
    def openai(self) -> AsyncOpenAI:
        return self.cluster.openai

    def pods(self, app: str) -> list[PodLife]:
        """Those of a Deployment that live."""
        return [life for life in self.cluster.node.lives.values() if life.app == app]

    async def until_ready(self) -> None:
        """Every Deployment has the pods that it wants, and files are answered through the Gateway."""

        def counts() -> dict[str, int]:
            return {app: sum(life.ready is True for life in self.pods(app)) for app in READY}

        await until(lambda: counts() == READY and self._no_others(), counts, seconds=120)
        await self._balanced()
        await until(self.serves, seconds=60)

    async def _balanced(self) -> None:
        """A load balancer has given the Gateway's Service an address."""
        service = f"/api/v1/namespaces/{GATEWAY_NAMESPACE}/services/{PROCESSOR}/status"
        address = {"status": {"loadBalancer": {"ingress": [{"ip": "10.244.9.9"}]}}}
        await self.cluster.admin.ask("PATCH", service, address)

    def _no_others(self) -> bool:
        return all(len(self.pods(app)) == number for app, number in READY.items())

    async def serves(self) -> bool:
        """Whether files can be listed."""
        with contextlib.suppress(aiohttp.ClientError):
            url, headers = f"https://{ENVOYS_NAME}/v1/files", {"authorization": f"Bearer {self.key}"}
            async with self.cluster.session.get(url, headers=headers) as answer:
                await answer.read()
                return answer.status == 200
        return False


class Resolver(aiohttp.abc.AbstractResolver):
    """Every name is this machine, and every port the one where Envoy listens for it."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        return [{"hostname": host, "host": "127.0.0.1", "port": 10443, "family": 2, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture(scope="package")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ControlPlane, Server, S3Server]]:
    """The control plane, the database and the object store, in a network of their own."""
    lacks, programs = lacking(), binaries()
    if lacks or programs is None:
        pytest.skip(lacks)
    folder = Path(tmp_path_factory.mktemp("production"))
    flags: dict[str, object] = {"advertise-address": NODE, "endpoint-reconciler-type": "none"}
    objects = folder / "s3"
    objects.mkdir()
    with (
        own_network(), api_server(programs, folder, **flags) as api, control_plane(api, folder) as plane,
        server() as database, s3_server(objects) as s3,
    ):  # fmt: skip
        yield plane, database, s3


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def production(stores: tuple[ControlPlane, Server, S3Server]) -> AsyncIterator[Production]:
    plane, database, s3 = stores
    folder = plane.folder / "overlay"
    await asyncio.to_thread(plane.restart_gateway, enableLua=True)
    key = await asyncio.to_thread(make_secrets, plane, folder, database, s3)
    trusted = ssl.create_default_context(cafile=str(folder / "tls.crt"))
    connector = aiohttp.TCPConnector(resolver=Resolver(), ssl=trusted)
    async with aiohttp.ClientSession(connector=connector) as session, aiohttp.ClientSession() as inside:
        admin = Admin(plane.server, inside)
        node = Node(admin, plane.server, plane.folder)
        living = asyncio.ensure_future(node.run())
        await asyncio.to_thread(define_monitoring, plane)
        await asyncio.to_thread(plane.kubectl, "apply", "-k", str(folder))
        found = Production(
            Cluster(admin, node, plane, session, sdk(key, trusted)), database, s3, key, trusted
        )  # fmt: skip
        try:
            ready = asyncio.ensure_future(found.until_ready())
            await asyncio.wait([ready, living], return_when=asyncio.FIRST_COMPLETED)
            if living.done():
                living.result()
            await ready
            yield found
        finally:
            await found.openai.close()
            living.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await living


def sdk(key: str, trusted: ssl.SSLContext) -> AsyncOpenAI:
    """An SDK that reaches the Gateway under its name, past DNS; it tries everything once."""
    extensions: dict[str, Callable[..., object] | str] = {"sni_hostname": ENVOYS_NAME}

    async def named(request: httpx2.Request) -> None:
        request.extensions = {**request.extensions, **extensions}
        request.headers["host"] = ENVOYS_NAME

    client = httpx2.AsyncClient(verify=trusted, event_hooks={"request": [named]}, timeout=120.0)
    return AsyncOpenAI(base_url="https://127.0.0.1:10443/v1", api_key=key, max_retries=0, http_client=client)


def make_secrets(plane: ControlPlane, folder: Path, database: Server, s3: S3Server) -> str:
    """The folder with the overlay, and the Secrets that it wants, by the commands of operations.md; a caller's key."""
    shutil.copytree(MANIFESTS, folder / "manifests")
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay()), encoding="utf-8")
    plane.kubectl("create", "namespace", NAMESPACE)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["keys", "new", "--file", str(folder / "keys.yaml"), "--caller", "my-team"]) == 0
    key = re.search(r"sk-\S+", printed.getvalue())
    assert key is not None, printed.getvalue()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["certificates", str(folder / "certificates"), "--namespace", NAMESPACE]) == 0
    (folder / "certificates.yaml").write_text(printed.getvalue(), encoding="utf-8")
    plane.kubectl("apply", "-f", str(folder / "certificates.yaml"))
    certified = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={ENVOYS_NAME}",
        "-addext", f"subjectAltName=DNS:{ENVOYS_NAME}", "-keyout", str(folder / "tls.key"),
        "-out", str(folder / "tls.crt"),
    ]  # fmt: skip
    subprocess.run(certified, check=True, capture_output=True)
    (folder / "note-keys").write_text(secrets.token_urlsafe(32), encoding="utf-8")
    secret = ("-n", NAMESPACE, "create", "secret")
    plane.kubectl(*secret, "generic", "aibrix-extproc-keys", f"--from-file={folder / 'keys.yaml'}")
    plane.kubectl(*secret, "tls", "aibrix-extproc-tls", f"--cert={folder / 'tls.crt'}", f"--key={folder / 'tls.key'}")
    plane.kubectl(*secret, "generic", "aibrix-extproc-note-keys", f"--from-file=keys={folder / 'note-keys'}")
    literals = {"database": database.url, "blobs": f"s3://{BUCKET}/{PREFIX}"}
    plane.kubectl(*secret, "generic", API, *(f"--from-literal={name}={value}" for name, value in literals.items()))
    store = [f"--from-literal={name}={value}" for name, value in s3.environment.items()]
    plane.kubectl(*secret, "generic", f"{API}-store", *store)
    plane.kubectl(*secret, "generic", "aibrix-extproc-redis", f"--from-literal=password={secrets.token_urlsafe(18)}")
    plane.kubectl(*secret, "generic", "authority", f"--from-file={folder / 'tls.crt'}")
    return key[0]


def overlay() -> Tree:
    """A copy's own: what it changes of `production`."""
    trust = {"spec": {"template": {"spec": {
        "containers": [{
            "name": "metadata",
            "env": [{"name": "SSL_CERT_FILE", "value": f"{AUTHORITY}/tls.crt"}],
            "volumeMounts": [{"name": "authority", "mountPath": AUTHORITY, "readOnly": True}],
        }],
        "volumes": [{"name": "authority", "secret": {"secretName": "authority"}}],
    }}}}  # fmt: skip
    worker = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "any"}, **trust}
    one = [{"op": "replace", "path": "/spec/provider/kubernetes/envoyDeployment/replicas", "value": 1}]
    return {
        "resources": ["manifests/overlays/production"],
        "components": ["manifests/components/simulators"],
        "patches": [
            {"target": {"kind": "EnvoyProxy"}, "patch": json.dumps(one)},
            {"target": {"kind": "Deployment", "name": WORKER}, "patch": yaml.safe_dump(worker)},
        ],
    }


def define_monitoring(plane: ControlPlane) -> None:
    """The kinds of the Prometheus operator, whatever their fields."""
    anything = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definitions = [
        {
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.monitoring.coreos.com"},
            "spec": {
                "group": "monitoring.coreos.com", "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": anything}],
            },
        }
        for kind, plural in OPERATOR.items()
    ]  # fmt: skip
    place = plane.folder / "operator.yaml"
    place.write_text(yaml.safe_dump_all(definitions), encoding="utf-8")
    plane.kubectl("apply", "-f", str(place))
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
