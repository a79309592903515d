"""The component `mutual-tls` with a real Envoy Gateway: its Envoys show their certificate, and nobody else gets in."""

import asyncio
import contextlib
import io
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from aibrix_extproc.cli.certificates import SECRETS
from aibrix_extproc.cli.main import main
from aibrix_extproc.doctor.finding import Severity
from tests.cluster.breaking import deleted
from tests.cluster.conftest import NAMESPACE, Cluster, an_answer, warm
from tests.cluster.processors import processors, stat, until_two_are_used
from tests.cluster.test_doctor import Named, until_named
from tests.manifests.built import MANIFESTS
from tests.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]

OURS = f"{NAMESPACE}/aibrix-extproc"
SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets"
ROUTES = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes"
POLICY = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/backendtlspolicies/aibrix-extproc"


@pytest_asyncio.fixture(loop_scope="package", scope="module")
async def certificates(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """The overlay `try` with the component, until the end of this file."""
    folder = tmp_path_factory.mktemp("mutual-tls")
    shutil.copytree(MANIFESTS, folder / "manifests")
    wanted = {"resources": ["manifests/overlays/try"], "components": ["manifests/components/mutual-tls"]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(wanted), encoding="utf-8")
    await asyncio.to_thread(issue, cluster, folder)
    await asyncio.to_thread(cluster.plane.kubectl, "apply", "-k", str(folder))
    await until_serving(cluster)
    yield folder / "certificates"
    # `apply` merges with what it applied last, so what the component has brought goes.
    await asyncio.to_thread(cluster.plane.kubectl, "apply", "-k", str(MANIFESTS / "overlays" / "try"))
    for path in (POLICY, f"{ROUTES}/aibrix-extproc-certificate"):
        await cluster.admin.ask("DELETE", path)
    await until_serving(cluster)


def issue(cluster: Cluster, folder: Path) -> None:
    """What operations.md says: make them, and apply what is printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["certificates", str(folder / "certificates"), "--namespace", NAMESPACE]) == 0
    secrets = folder / "secrets.yaml"
    secrets.write_text(printed.getvalue(), encoding="utf-8")
    cluster.plane.kubectl("apply", "-f", str(secrets))


async def until_serving(cluster: Cluster) -> None:
    """All processors are those of the latest template, Envoy uses them, and twenty answers in a row are good."""
    good = 0

    async def used() -> bool:
        nonlocal good
        ready = [life.ready for life in processors(cluster)] == [True, True]
        good = good + 1 if ready and await an_answer(cluster) == 200 else 0
        return good >= 20

    await until(used, seconds=120)


async def health(address: str, credentials: grpc.ChannelCredentials | None) -> bool:
    """Whether health is answered there."""
    channel = (
        grpc.aio.insecure_channel(address)
        if credentials is None
        else grpc.aio.secure_channel(address, credentials, [("grpc.ssl_target_name_override", SERVER_NAME)])
    )
    async with channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service="liveness"), timeout=5
            )
        except grpc.aio.AioRpcError:
            return False
        return True


SERVER_NAME = "aibrix-extproc.aibrix-extproc-system.svc"


async def test_envoy_gateway_accepts_it_and_its_envoys_are_served(cluster: Cluster, certificates: Path) -> None:
    policy = await cluster.admin.ask("GET", POLICY)
    (ancestor,) = policy["status"]["ancestors"][:1]
    assert {one["type"]: one["status"] for one in ancestor["conditions"]}["Accepted"] == "True"
    assert await stat(cluster, "ssl.handshake") > 0
    assert await stat(cluster, "membership_healthy") == 2


@pytest.mark.parametrize(
    ("path", "expected"),
    [(POLICY, {(Severity.ERROR, "guarded", f"Deployment {OURS}")}),
     (f"{ROUTES}/aibrix-extproc-certificate", {(Severity.ERROR, "guarded", f"Gateway {OURS}")}),
     (f"{SECRET}/{SECRETS['envoy']}",
      {(Severity.ERROR, "conditions", subject)
       for subject in (f"EnvoyExtensionPolicy {OURS}", f"HTTPRoute {OURS}-certificate")})],
    ids=["policy", "route", "secret"],
)  # fmt: skip
async def test_doctor_names_the_part_that_is_missing(
    cluster: Cluster, certificates: Path, path: str, expected: set[Named]
) -> None:
    async with deleted(cluster.admin, path):
        await until_named(cluster, expected)
    await until_named(cluster, set())
    await until_serving(cluster)
    await warm(cluster)  # the new cluster counts anew


async def test_nobody_else_is_served(cluster: Cluster, certificates: Path) -> None:
    authority = (certificates / "envoy" / "ca.crt").read_bytes()
    envoy = [(certificates / "envoy" / name).read_bytes() for name in ("tls.key", "tls.crt")]
    server = [(certificates / "server" / name).read_bytes() for name in ("tls.key", "tls.crt")]
    for life in processors(cluster):
        address = f"{life.ip}:9002"
        assert not await health(address, None)
        assert not await health(address, grpc.ssl_channel_credentials(authority))
        assert not await health(address, grpc.ssl_channel_credentials(authority, *server))
        assert await health(address, grpc.ssl_channel_credentials(authority, *envoy))
        assert await health(f"{life.ip}:9004", None)


async def test_envoys_take_renewed_certificates_under_load(cluster: Cluster, certificates: Path) -> None:
    before = await cluster.admin.ask("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/{SECRETS['envoy']}")
    handshakes = await stat(cluster, "ssl.handshake")
    asking = asyncio.ensure_future(keep_asking(cluster))
    await asyncio.to_thread(issue, cluster, certificates.parent)
    after = await cluster.admin.ask("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/{SECRETS['envoy']}")
    assert before["data"]["tls.crt"] != after["data"]["tls.crt"]

    async def reported() -> bool:
        path = "http://127.0.0.1:19000/certs"
        async with cluster.session.get(path) as answer:
            serials = await answer.text()
        shown = ssl.PEM_cert_to_DER_cert((certificates / "envoy" / "tls.crt").read_text())
        return serial_of(shown) in serials

    await until(reported, seconds=60)
    for life in processors(cluster):
        life.kill()  # one after the other: new connections, hence new handshakes
        await until_two_are_used(cluster)
    assert await stat(cluster, "ssl.handshake") > handshakes
    asking.cancel()
    assert await an_answer(cluster) == 200


async def keep_asking(cluster: Cluster) -> None:
    while True:
        await an_answer(cluster)


def serial_of(certificate: bytes) -> str:
    from cryptography import x509

    return f"{x509.load_der_x509_certificate(certificate).serial_number:x}"
