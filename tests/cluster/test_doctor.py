"""`doctor` on a real cluster: silent while everything is right, and naming each thing that somebody breaks."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import yaml

from aibrix_extproc.app.doctor import Wanted, examine_cluster
from aibrix_extproc.doctor.finding import Finding, Severity
from tests.architecture.sources import ROOT
from tests.cluster.api import Admin, Tree
from tests.cluster.asking import engine
from tests.cluster.breaking import CORE, ENVOY_GATEWAY, RBAC, added, changed, deleted
from tests.cluster.conftest import NAMESPACE, Cluster
from tests.cluster.plane import GATEWAY_NAMESPACE
from tests.cluster.processors import processors
from tests.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]

E, W = Severity.ERROR, Severity.WARNING
OURS: Final = f"{NAMESPACE}/aibrix-extproc"
READER: Final = "nobody"  # a user of the API server without any right
RBAC_GROUP: Final = "rbac.authorization.k8s.io"
TARGETS_GATEWAY: Final = [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "aibrix-extproc"}]
TARGETS_ROUTE: Final = [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "aibrix-extproc"}]
Broken = Callable[[Admin], AbstractAsyncContextManager[None]]
Named = tuple[Severity, str, str]


async def findings(cluster: Cluster, kubeconfig: Path | None = None) -> list[Finding]:
    wanted = Wanted(kubeconfig or cluster.plane.kubeconfig, None, NAMESPACE, GATEWAY_NAMESPACE)
    return await examine_cluster(wanted, lambda _: None)


async def until_named(cluster: Cluster, expected: set[Named]) -> list[Finding]:
    """Those worse than a note, once they are what is expected: controllers take their time to write what they see."""
    found: list[Finding] = []

    async def are_named() -> bool:
        found[:] = [one for one in await findings(cluster) if one.severity is not Severity.NOTE]
        return {(one.severity, one.check, one.subject) for one in found} == expected

    await until(are_named, lambda: found, seconds=20)
    return found


def doctored(kubeconfig: Path) -> tuple[int, Tree]:
    """The command's exit code and its JSON."""
    command = [sys.executable, "-m", "aibrix_extproc", "doctor", "--json", "--kubeconfig", str(kubeconfig)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.stdout, ran.stderr
    report: Tree = json.loads(ran.stdout)
    return ran.returncode, report


def documented_role() -> Tree:
    """What docs/operations.md lets somebody read who is to run doctor in our namespace."""
    blocks = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").split("```yaml\n")[1:]
    roles = [yaml.safe_load(block.partition("```")[0]) for block in blocks]
    (role,) = [one for one in roles if isinstance(one, dict) and one.get("kind") == "Role"]
    found: Tree = role
    return found


@asynccontextmanager
async def reader(cluster: Cluster) -> AsyncIterator[Path]:
    """The kubeconfig of a user with that Role and no other right."""
    namespace = f"{RBAC}/namespaces/{NAMESPACE}"
    role = documented_role()
    subject = {"kind": "User", "apiGroup": RBAC_GROUP, "name": READER}
    binding = {
        "metadata": role["metadata"],
        "roleRef": {"apiGroup": RBAC_GROUP, "kind": "Role", "name": role["metadata"]["name"]},
        "subjects": [subject],
    }
    async with (
        added(cluster.admin, f"{namespace}/roles", role),
        added(cluster.admin, f"{namespace}/rolebindings", binding),
    ):
        yield cluster.plane.kubeconfig_of(READER)


async def test_doctor_has_nothing_against_the_shipped_manifests_where_they_run(cluster: Cluster) -> None:
    """It notes that there are no keys, and that Envoy Gateway is no Deployment here.

    Reports of the processors come through the API server.
    """
    found = await findings(cluster)
    assert [(one.severity, one.check) for one in found] == [(Severity.NOTE, "version"), (Severity.NOTE, "keyless")]
    code, report = await asyncio.to_thread(doctored, cluster.plane.kubeconfig)
    assert (code, report["ok"]) == (0, True)
    assert [one["check"] for one in report["findings"]] == ["version", "keyless"]


async def test_doctor_of_somebody_who_may_only_read_the_namespace_notes_what_it_could_not_see(cluster: Cluster) -> None:
    async with reader(cluster) as kubeconfig:
        found = await findings(cluster, kubeconfig)
        assert {one.severity for one in found} == {Severity.NOTE}, found
        assert sorted(one.check for one in found) == ["access", "keyless", "read", "reports", "reports", "version"]
        assert {one.fix for one in found if one.check == "reports"} == {"run doctor as somebody who may get pods/proxy"}
        # Still it sees what is broken.
        async with deleted(cluster.admin, f"{ENVOY_GATEWAY}/clienttrafficpolicies/aibrix-extproc"):
            code, report = await asyncio.to_thread(doctored, kubeconfig)
        assert code == 1
        assert [one["check"] for one in report["findings"] if one["severity"] != "note"] == ["early_removal"]
    await until_named(cluster, set())


async def test_doctor_that_may_read_nothing_does_not_say_that_all_is_well(cluster: Cluster) -> None:
    found = await findings(cluster, cluster.plane.kubeconfig_of(READER))
    assert [one.check for one in found if one.severity is E] == ["gateway"]
    assert "Gateway" in {one.subject for one in found if one.check == "read"}


def without(kind: str) -> Broken:
    return lambda admin: deleted(admin, f"{ENVOY_GATEWAY}/{kind}/aibrix-extproc")


def with_policy(plural: str, kind: str, **spec: object) -> Broken:
    """Another policy, `own`."""
    one = {"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": kind, "metadata": {"name": "own"}, "spec": spec}
    return lambda admin: added(admin, f"{ENVOY_GATEWAY}/{plural}", one)


def with_change(path: str, change: Callable[[Tree], object]) -> Broken:
    return lambda admin: changed(admin, path, change)


def with_controller(image: str) -> Broken:
    labels = {"app": "envoy-gateway"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "envoy-gateway", "image": image}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    one = {"metadata": {"name": "envoy-gateway"}, "spec": spec}
    return lambda admin: added(admin, f"/apis/apps/v1/namespaces/{GATEWAY_NAMESPACE}/deployments", one)


def _other_port(service: Tree) -> None:
    service["spec"]["ports"][0]["port"] = 9999


def _one_path(route: Tree) -> None:
    del route["spec"]["rules"][0]["matches"][1]


def _cut(route: Tree) -> None:
    route["spec"]["rules"][0]["timeouts"]["request"] = "60s"


def _others(policy: Tree) -> None:
    for peer in policy["spec"]["ingress"][0]["from"]:
        peer["podSelector"]["matchLabels"]["gateway.envoyproxy.io/owning-gateway-namespace"] = "default"


def _small_bodies(policy: Tree) -> None:
    policy["spec"]["connection"]["bufferLimit"] = "1Mi"


def _no_attributes(policy: Tree) -> None:
    del policy["spec"]["extProc"][0]["processingMode"]["response"]["attributes"]


def _no_pods(role: Tree) -> None:
    role["rules"] = [rule for rule in role["rules"] if rule["resources"] != ["pods"]]


EXTENSION, BACKEND, ACCOUNT = f"EnvoyExtensionPolicy {OURS}", f"BackendTrafficPolicy {OURS}", f"ServiceAccount {OURS}"
OWN: Final = f"{NAMESPACE}/own"
ROUTE: Final = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes/aibrix-extproc"
TLS: Final[Tree] = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "BackendTLSPolicy",
    "metadata": {"name": "own"},
    "spec": {
        "targetRefs": [{"group": "", "kind": "Service", "name": "aibrix-extproc", "sectionName": "grpc"}],
        "validation": {"wellKnownCACertificates": "System", "hostname": "processor.example"},
    },
}
NETWORK_POLICY: Final = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies/aibrix-extproc"
PROCESSOR: Final = [{"backendRefs": [{"name": "aibrix-extproc", "port": 9002}]}]


@pytest.mark.parametrize(
    ("broken", "expected", "words"),
    [
        pytest.param(without("clienttrafficpolicies"), {(E, "early_removal", f"Gateway {OURS}")},
                     "clients choose engines", id="no-client-policy"),
        pytest.param(with_policy("clienttrafficpolicies", "ClientTrafficPolicy", targetRefs=TARGETS_GATEWAY),
                     {(E, check, f"ClientTrafficPolicy {OWN}")
                      for check in ("conditions", "early_removal", "client_limits")},
                     "Conflicted", id="two-client-policies"),
        pytest.param(with_policy("envoyextensionpolicies", "EnvoyExtensionPolicy", targetRefs=TARGETS_ROUTE,
                                 extProc=PROCESSOR),
                     {(E, "overrides", f"EnvoyExtensionPolicy {OWN}"), (E, "conditions", EXTENSION)},
                     "skip the processor", id="extension-policy-of-the-route"),
        pytest.param(with_policy("backendtrafficpolicies", "BackendTrafficPolicy", targetRefs=TARGETS_GATEWAY,
                                 tcpKeepalive={}),
                     set(), "", id="backend-policy-of-the-gateway-that-ours-overrides"),
        pytest.param(with_change(f"{ENVOY_GATEWAY}/backendtrafficpolicies/aibrix-extproc",
                                 lambda one: one["spec"].pop("healthCheck")),
                     {(E, "backend_traffic", BACKEND)}, "panic", id="no-panic-threshold"),
        pytest.param(with_change(f"{CORE}/services/aibrix-extproc", _other_port), {(E, "conditions", EXTENSION)},
                     "9002 not found", id="wrong-port-of-the-processors-service"),
        pytest.param(with_change(f"{RBAC}/clusterroles/aibrix-extproc-fleet", _no_pods), {(E, "access", ACCOUNT)},
                     "get, list, watch", id="no-right-to-read-pods"),
        pytest.param(lambda admin: added(admin, ROUTE.replace("httproutes/aibrix-extproc", "backendtlspolicies"), TLS),
                     {(E, "guarded", f"BackendTLSPolicy {OWN}")}, "speaks none", id="tls-left-behind"),
        pytest.param(with_change(ROUTE, _one_path), {(E, "shadowed", f"HTTPRoute {OURS}")}, "/v1/messages",
                     id="longer-path-without-its-counterpart"),
        pytest.param(with_change(ROUTE, _cut), {(W, "timeouts", f"HTTPRoute {OURS}")}, "60 s", id="answers-cut"),
        pytest.param(lambda admin: deleted(admin, f"{ENVOY_GATEWAY}/httproutefilters/aibrix-extproc-unavailable"),
                     {(E, "conditions", f"HTTPRoute {OURS}"), (E, "catch_all", f"Gateway {OURS}")}, "HTTPRouteFilter",
                     id="no-catch-all"),
        pytest.param(with_change(NETWORK_POLICY, _others), {(E, "envoys_may_pass", f"NetworkPolicy {OURS}")},
                     "503", id="network-policy-for-other-envoys"),
        pytest.param(lambda admin: deleted(admin, NETWORK_POLICY), {(W, "guarded", f"Deployment {OURS}")},
                     "open to the whole cluster", id="no-network-policy"),
        pytest.param(with_change(f"{ENVOY_GATEWAY}/clienttrafficpolicies/aibrix-extproc", _small_bodies),
                     {(W, "client_limits", f"ClientTrafficPolicy {OURS}")}, "413", id="small-bodies"),
        pytest.param(with_change(f"{ENVOY_GATEWAY}/envoyextensionpolicies/aibrix-extproc", _no_attributes),
                     {(E, "processor", EXTENSION)}, "", id="no-attributes"),
        pytest.param(lambda admin: deleted(admin, f"{RBAC}/namespaces/{NAMESPACE}/rolebindings/aibrix-extproc-publish"),
                     {(E, "access", ACCOUNT)}, "", id="no-right-to-publish"),
        pytest.param(with_controller("docker.io/envoyproxy/gateway:v1.6.2"),
                     {(E, "version", f"Deployment {GATEWAY_NAMESPACE}/envoy-gateway")}, "1.7", id="old-envoy-gateway"),
        pytest.param(with_controller("docker.io/envoyproxy/gateway:v1.9.1"), set(), "", id="good-envoy-gateway"),
    ],
)  # fmt: skip
async def test_doctor_names_what_is_broken(cluster: Cluster, broken: Broken, expected: set[Named], words: str) -> None:
    async with broken(cluster.admin):
        found = await until_named(cluster, expected)
        assert not words or any(words in one.notice for one in found), found
    await until_named(cluster, set())


async def test_doctor_names_a_pod_whose_port_label_is_broken(cluster: Cluster) -> None:
    async with engine(cluster, "mislabelled", "model-mislabelled", ready=False) as life:
        label = {"metadata": {"labels": {"model.aibrix.ai/port": "99999"}}}
        await cluster.admin.ask("PATCH", life.path, label)
        (found,) = await until_named(cluster, {(W, "pods", f"Pod {NAMESPACE}/mislabelled")})
        assert "99999" in found.notice


async def test_doctor_names_an_engine_that_is_dead(cluster: Cluster) -> None:
    async with engine(cluster, "dead", "model-dead") as life:
        life.restarts = False
        life.kill()
        (found,) = await until_named(cluster, {(W, "reports", f"engine {NAMESPACE}/dead")})
        assert "2 processor(s) see it not_ready: the pod is not ready" in found.notice


async def test_doctor_names_an_engine_that_listens_elsewhere(cluster: Cluster) -> None:
    async with engine(cluster, "elsewhere", "model-elsewhere", ready=False) as life:
        await cluster.admin.ask("PATCH", life.path, {"metadata": {"labels": {"model.aibrix.ai/port": "8001"}}})
        cluster.node.held.discard("elsewhere")
        await until(lambda: life.ready is True, seconds=30)
        (found,) = await until_named(cluster, {(W, "reports", f"engine {NAMESPACE}/elsewhere")})
        assert "unreachable" in found.notice
        assert "port label" in found.fix


async def test_doctor_says_that_an_engine_wants_a_key(cluster: Cluster) -> None:
    async with engine(cluster, "locked", "model-locked", "--api-key", "secret", ready=False) as life:
        cluster.node.held.discard("locked")
        await until(lambda: life.ready is True, seconds=30)

        async def said() -> bool:
            return any("wants a key" in one.notice for one in await findings(cluster))

        await until(said)
        (found,) = await until_named(cluster, {(W, "reports", f"engine {NAMESPACE}/locked")})
        assert "engine_api_key" in found.fix


async def test_doctor_does_not_wait_long_for_a_processor_that_hangs(cluster: Cluster) -> None:
    life = processors(cluster)[-1]
    assert life.process is not None
    life.process.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        notes = [one for one in await findings(cluster) if one.check == "reports"]
        assert time.monotonic() - started < 20
        assert [(one.severity, one.subject) for one in notes] == [(Severity.NOTE, f"Pod {NAMESPACE}/{life.name}")]
        assert "stuck" in notes[0].fix
    finally:
        life.process.send_signal(signal.SIGCONT)
    await until(lambda: life.ready is True, seconds=30)
    await until_named(cluster, set())
