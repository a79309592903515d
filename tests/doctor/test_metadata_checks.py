"""What can be broken on the way to the metadata service, and in what it keeps and shares, is found."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from aibrix_extproc.doctor.finding import Finding, Severity
from aibrix_extproc.doctor.fleet_checks import Report
from aibrix_extproc.doctor.metadata_reports import states
from tests.doctor.test_doctor import GONE, examined, put
from tests.manifests.built import built

pytestmark = pytest.mark.slow  # each build takes kubectl half a second

NAME, WORKER, UPLOADS = "aibrix-extproc-metadata", "aibrix-extproc-metadata-worker", "aibrix-extproc-uploads"
VOLUME, DATABASE, PRODUCTION = "components/metadata-volume", "components/metadata", "overlays/production"
POD = "spec.template.spec"
ENV, ARGS = f"{POD}.containers.0.env", f"{POD}.containers.0.args"
KEYS, BUFFERED = "spec.headers.earlyRequestHeaders.remove", {"limit": "50Mi"}
E, W = Severity.ERROR, Severity.WARNING
Objects = list[dict[str, Any]]


def shipped(build: str) -> Objects:
    """As built, with the image that an operator has pushed."""
    objects = copy.deepcopy([dict(one) for one in built(build)])
    for one in objects:
        for container in one["spec"]["template"]["spec"]["containers"] if one["kind"] == "Deployment" else ():
            container["image"] = "registry.example.com/aibrix-extproc:1"
    return objects


def of(objects: Objects, kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def told(thing: dict[str, Any], variable: str, value: str | None) -> None:
    """Set a variable of the first container, or take it away."""
    container = thing["spec"]["template"]["spec"]["containers"][0]
    name = f"AIBRIX_EXTPROC_{variable}"
    container["env"] = [one for one in container["env"] if one["name"] != name]
    container["env"] += [] if value is None else [{"name": name, "value": value}]


def bad(objects: Objects) -> list[Finding]:
    return [one for one in examined(objects) if one.severity is not Severity.NOTE]


@pytest.mark.parametrize("build", [VOLUME, DATABASE, PRODUCTION, "overlays/try"])
def test_doctor_finds_nothing_in_the_shipped_components(build: str) -> None:
    assert bad(shipped(build)) == []


@pytest.mark.parametrize(
    ("kind", "name", "path", "value", "check", "severity"),
    [
        ("HTTPRoute", NAME, "spec.rules.0.matches.0.headers", GONE, "signed_route", E),
        ("HTTPRoute", NAME, "spec.rules.0.matches.0.path.value", "/v1", "signed_route", E),
        ("HTTPRoute", NAME, "spec.rules.0.filters",
         [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["X-AIBrix-Signed-Caller"]}}],
         "signed_route", E),
        ("HTTPRoute", NAME, "spec.rules.0.backendRefs.0.name", "other", "served", E),
        ("HTTPRoute", NAME, "spec.rules.0.backendRefs.0.port", 80, "served", E),
        ("HTTPRoute", NAME, "spec.rules.0.timeouts", {"request": "30s"}, "timeouts", E),
        ("HTTPRoute", NAME, "spec.parentRefs.0.name", "other", "handed_over", E),
        ("Service", NAME, "spec.selector", {"app": "other"}, "served", E),
        ("Service", NAME, "metadata.name", "other", "served", E),
        ("Deployment", NAME, ARGS, ["metadata", "--role", "worker"], "served", E),
        ("ClientTrafficPolicy", "aibrix-extproc", "spec.headers.earlyRequestHeaders.remove.6", "x", "early_removal", W),
        ("BackendTrafficPolicy", NAME, "spec.requestBuffer", BUFFERED, "streamed", E),
        ("BackendTrafficPolicy", NAME, "spec.retry", {"numRetries": 2}, "streamed", W),
        ("BackendTrafficPolicy", NAME, "spec.targetRefs.0.name", "other", "streamed", W),
        ("EnvoyExtensionPolicy", UPLOADS, "spec.targetRefs.0.name", "other", "waits", W),
        ("EnvoyExtensionPolicy", UPLOADS, "spec.extProc.0.processingMode.request.body", "Buffered", "overrides", E),
        ("EnvoyExtensionPolicy", UPLOADS, "spec.extProc.0.failOpen", False, "overrides", E),
        ("EnvoyExtensionPolicy", UPLOADS, "spec.targetRefs.0.name", "aibrix-extproc", "overrides", E),
        ("HTTPRoute", UPLOADS, "spec.parentRefs.0.name", "other", "waits", W),
        ("HTTPRoute", UPLOADS, "spec.rules.0.matches.1.path.value", "/v1/other", "waits", W),
        ("HTTPRoute", NAME, "spec.rules.0.matches.2", GONE, "waits", E),
        ("NetworkPolicy", NAME, "spec.ingress", [], "envoys_reach_it", E),
        ("NetworkPolicy", NAME, "spec.ingress.0.ports.0.port", "admin", "envoys_reach_it", E),
        ("EnvoyExtensionPolicy", "aibrix-extproc", "spec.extProc.0.processingMode.allowModeOverride", False,
         "processor", E),
    ],
)  # fmt: skip
@pytest.mark.parametrize("build", [VOLUME, DATABASE])
def test_doctor_finds_a_broken_way(
    build: str, kind: str, name: str, path: str, value: object, check: str, severity: Severity
) -> None:
    objects = shipped(build)
    put(of(objects, kind, name), path, value)
    found = bad(objects)
    assert (check, severity) in {(one.check, one.severity) for one in found}, found


Change = Callable[[Objects], object]


def with_variable(name: str, variable: str, value: str | None) -> Change:
    return lambda objects: told(of(objects, "Deployment", name), variable, value)


def with_field(kind: str, name: str, path: str, value: object) -> Change:
    return lambda objects: put(of(objects, kind, name), path, value)


def with_another_secret(name: str) -> Change:
    def change(objects: Objects) -> None:
        (volume,) = [
            one for one in of(objects, "Deployment", name)["spec"]["template"]["spec"]["volumes"]
            if one["name"] == "note-keys"
        ]  # fmt: skip
        volume["secret"]["secretName"] = "other"

    return change


def with_two_processes_on_files(objects: Objects) -> None:
    for name in (NAME, WORKER):
        told(of(objects, "Deployment", name), "METADATA__DATABASE", "sqlite:////data/ledger.sqlite")


@pytest.mark.parametrize(
    ("build", "change", "check", "words"),
    [
        (VOLUME, with_variable("aibrix-extproc", "METADATA__ENABLED", None), "handed_over", "404"),
        (VOLUME, with_variable("aibrix-extproc", "CONTROL__URL", None), "followed", "no effect"),
        (VOLUME, with_variable(NAME, "METADATA__HOST", "127.0.0.1"), "served", "no Envoy reaches"),
        (VOLUME, with_variable(NAME, "KUBERNETES__ENABLED", None), "served", "no source of engines"),
        (VOLUME, with_field("Deployment", NAME, f"{POD}.volumes.0", {"name": "data", "emptyDir": {}}), "kept", "lost"),
        (VOLUME, with_variable(NAME, "METADATA__DATA_DIR", None), "kept", "lost"),
        (VOLUME, with_variable(NAME, "METADATA__DATA_DIR", "/elsewhere"), "kept", "lost"),
        (VOLUME, with_variable(NAME, "METADATA__DATABASE", "sqlite:////tmp/x"), "kept", "the SQLite database is of"),
        (VOLUME, with_field("Deployment", NAME, "spec.replicas", 2), "kept", "several processes"),
        (VOLUME, with_field("Deployment", NAME, "spec.strategy", {"type": "RollingUpdate"}), "kept", "rollout"),
        (DATABASE, with_two_processes_on_files, "kept", "several processes"),
        (DATABASE, with_variable(NAME, "METADATA__BLOBS", "file:///tmp/blobs"), "kept", "blobs are of one pod"),
        (VOLUME, with_variable(NAME, "METERING__NOTE_KEYS", None), "shared_keys", "does not start"),
        (VOLUME, with_variable("aibrix-extproc", "METERING__NOTE_KEYS", None), "shared_keys", "401"),
        (VOLUME, with_another_secret("aibrix-extproc"), "shared_keys", "Secret other"),
        (DATABASE, with_another_secret(WORKER), "shared_keys", "refuses"),
        (VOLUME, with_variable(NAME, "METADATA__GATEWAY_URL", None), "gateway_url", "the pod itself"),
        (DATABASE, with_variable(WORKER, "METADATA__GATEWAY_URL", "http://127.0.0.1:8080"), "gateway_url", "pod"),
        (DATABASE, with_variable(WORKER, "METADATA__GATEWAY_URL", "aibrix-extproc"), "gateway_url", "is none"),
        (DATABASE, with_variable(WORKER, "METADATA__GATEWAY_URL", "http://aibrix-extproc.aibrix-extproc-system"),
         "gateway_url", "Service aibrix-extproc-system/aibrix-extproc, which is not"),
        (DATABASE, with_variable(WORKER, "METADATA__GATEWAY_URL", "http://eg.envoy-gateway-system.svc"),
         "gateway_url", "called aibrix-extproc"),
        (DATABASE, with_variable(WORKER, "METADATA__GATEWAY_URL", "http://aibrix-extproc.envoy-gateway-system:8080"),
         "gateway_url", "which has http 80"),
        (PRODUCTION, with_variable(WORKER, "METADATA__GATEWAY_URL", "http://aibrix-extproc.envoy-gateway-system.svc"),
         "gateway_url", "which has https 443"),
        (PRODUCTION, with_variable(WORKER, "METADATA__GATEWAY_URL", "https://aibrix-extproc.envoy-gateway-system.svc"),
         "gateway_url", "certificate"),
        (DATABASE, with_field("NetworkPolicy", WORKER, "spec.policyTypes", ["Ingress", "Egress"]),
         "gateway_url", "lets nothing out"),
    ],
)  # fmt: skip
def test_doctor_finds_what_is_kept_or_told_wrongly(build: str, change: Change, check: str, words: str) -> None:
    objects = shipped(build)
    change(objects)
    found = bad(objects)
    assert {one.check for one in found} == {check}, found
    assert any(words in one.notice for one in found), found


@pytest.mark.parametrize(
    "url",
    ["http://aibrix-extproc.envoy-gateway-system", "http://aibrix-extproc.envoy-gateway-system.svc.cluster.local:80",
     "https://llm.example.com", "http://10.0.0.7:8080"],
)  # fmt: skip
def test_doctor_takes_urls_that_may_lead_to_the_envoys(url: str) -> None:
    objects = shipped(DATABASE)
    told(of(objects, "Deployment", WORKER), "METADATA__GATEWAY_URL", url)
    assert bad(objects) == []


def test_doctor_finds_a_service_that_nothing_leads_to() -> None:
    """Processors that hand over to a component which was applied in part."""
    objects = [one for one in shipped(VOLUME) if one["metadata"]["name"] not in (NAME, UPLOADS)]
    assert [(one.check, one.severity) for one in bad(objects)] == [("handed_over", E)]


def test_doctor_says_what_a_cluster_lacks_to_keep_files() -> None:
    objects = shipped(DATABASE)
    for one in objects:
        if one["kind"] == "Deployment":
            one["status"] = {"readyReplicas": 2}
    of(objects, "Deployment", WORKER)["status"] = {}
    found = {one.subject: one.notice for one in examined(objects, live=True) if one.check == "ready"}
    assert found == {f"Deployment aibrix-extproc-system/{WORKER}": "no worker is ready: batches do not go on"}


GOOD: dict[str, Any] = {"ready": True, "database": "ok", "blobs": "ok", "caller_keys": {"ok": True}}


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        (GOOD, []),
        (GOOD | {"database": "connection refused"}, [(E, "/readyz database")]),
        (GOOD | {"blobs": "403 Forbidden"}, [(E, "/readyz blobs")]),
        (GOOD | {"caller_keys": {"ok": False}}, [(W, "/readyz caller_keys")]),
        ({"ready": False}, []),  # what the API server says in its place
    ],
)
def test_doctor_tells_what_a_service_says_of_its_storage(
    health: dict[str, Any], expected: list[tuple[Severity, str]]
) -> None:
    found = list(states([Report("Pod a/b", health, {}), Report("Pod a/c", error="no answer")]))
    assert [(one.severity, one.field) for one in found] == expected
