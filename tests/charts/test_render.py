"""What the real Helm makes of the chart is what kustomize makes of the manifests."""

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from aibrix_extproc.cli.main import main
from charts import gateway
from charts.builds import COMPONENTS, built
from charts.write import CHARTS
from tests.charts.helm import by_key, helm, kustomized_with, rendered

pytestmark = pytest.mark.helm

CREATE = ("--set", "namespace.create=true")
# `ipv6` changes what others bring, so kustomize has it last.
SWITCHES = tuple(
    sorted((name for name in COMPONENTS if name not in gateway.OTHERWISE), key=lambda name: name.endswith("/ipv6"))
)
PAIRS = tuple(pair for pair in combinations(SWITCHES, 2) if set(pair) != set(gateway.EXCLUSIVE))
EVERYTHING = tuple(name for name in SWITCHES if name != gateway.EXCLUSIVE[1])


def on(*components: str) -> tuple[str, ...]:
    """Options that switch components on."""
    return tuple(word for name in components for word in ("--set", f"{gateway.switch(name)}.enabled=true"))


def with_values(name: str) -> tuple[str, str]:
    return "--values", str(CHARTS / "aibrix-extproc" / f"values-{name}.yaml")


@pytest.mark.parametrize("name", ["try", "production"])
def test_chart_with_the_values_of_an_overlay_is_the_overlay(name: str) -> None:
    assert by_key(rendered(*CREATE, *with_values(name))) == by_key(built(f"overlays/{name}"))


def test_chart_by_default_is_the_base_in_a_namespace_that_is_there() -> None:
    assert by_key(rendered()) == by_key(built("components/existing-namespace"))


@pytest.mark.parametrize("component", SWITCHES)
def test_chart_with_one_switch_is_the_base_with_that_component(component: str) -> None:
    assert by_key(rendered(*CREATE, *on(component))) == by_key(built(component))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "-".join(map(gateway.switch, pair)))
def test_chart_with_two_switches_is_the_base_with_both_components(pair: tuple[str, str]) -> None:
    both = kustomized_with(resources=["manifests/base"], components=[f"manifests/{name}" for name in pair])
    assert by_key(rendered(*CREATE, *on(*pair))) == by_key(both)


def test_chart_for_all_namespaces_is_the_component() -> None:
    assert by_key(rendered(*CREATE, "--set", "namespaces={*}")) == by_key(built("components/all-namespaces"))


def test_chart_in_another_namespace_is_the_overlay_that_the_docs_show() -> None:
    select = {"kind": "Gateway", "name": "aibrix-extproc", "fieldPath": "metadata.namespace"}
    label = "matchLabels.[gateway.envoyproxy.io/owning-gateway-namespace]"
    policy = f"spec.ingress.*.from.*.podSelector.{label}"
    spread = f"spec.provider.kubernetes.envoyDeployment.pod.topologySpreadConstraints.*.labelSelector.{label}"
    moved = kustomized_with(
        resources=["manifests/base"],
        components=["manifests/components/keys"],
        namespace="llm-gateway",
        replacements=[{"source": select, "targets": [
            {"select": {"kind": "NetworkPolicy", "name": "aibrix-extproc"}, "fieldPaths": [policy]},
            {"select": {"kind": "EnvoyProxy"}, "fieldPaths": [spread]},
        ]}],
    )  # fmt: skip
    things = by_key(moved)
    # Kustomize takes every kind that it does not know for one with a namespace; kubectl knows better.
    of_class = things.pop(("GatewayClass", "llm-gateway", "aibrix-extproc"))
    del of_class["metadata"]["namespace"]
    things["GatewayClass", "", "aibrix-extproc"] = of_class
    assert by_key(rendered(*CREATE, *on("components/keys"), namespace="llm-gateway")) == things


@pytest.mark.parametrize(
    "options",
    [(), with_values("try"), with_values("production"), on(*EVERYTHING), ("--set", "namespaces={a,b}", *CREATE)],
    ids=["defaults", "try", "production", "everything", "namespaces"],
)
def test_chart_passes_the_lint(options: tuple[str, ...]) -> None:
    ran = helm("lint", "--strict", CHARTS / "aibrix-extproc", *options)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_value_that_the_chart_does_not_have_is_refused() -> None:
    ran = helm("template", "x", CHARTS / "aibrix-extproc", "--set", "replica=3")
    assert ran.returncode != 0
    assert "replica" in ran.stderr


def test_two_ways_to_keep_files_at_once_are_refused() -> None:
    ran = helm("template", "x", CHARTS / "aibrix-extproc", *on(*gateway.EXCLUSIVE))
    assert ran.returncode != 0
    assert "not" in ran.stderr


def at(things: dict[Any, Any], kind: str, name: str, *path: Any, namespace: str = "aibrix-extproc-system") -> Any:
    place = things[kind, namespace, name]
    for step in path:
        place = place[step]
    return place


def test_values_come_in_where_they_say() -> None:
    values = {
        "image.repository": "registry.example.com/x", "image.tag": "7a", "image.pullPolicy": "Always",
        "image.pullSecrets[0].name": "login", "replicas.min": "3", "replicas.max": "5",
        "resources.requests.cpu": "2", "env[0].name": "AIBRIX_EXTPROC_ROUTING__STRATEGY", "env[0].value": "random",
        "podAnnotations.a": "b", "nodeSelector.disk": "fast", "priorityClassName": "high", "tolerations[0].key": "gpu",
        "serviceAccount.annotations.c": "d", "envoy.replicas": "4", "envoy.service.type": "NodePort",
        "envoy.service.annotations.e": "f", "envoy.drainTimeout": "2h", "envoyGateway.namespace": "eg",
        "keys.enabled": "true", "keys.secretName": "k", "tls.enabled": "true", "tls.secretName": "t",
        "oneModel.enabled": "true", "oneModel.model": "m", "namespaces[0]": "one", "namespaces[1]": "two",
    }  # fmt: skip
    things = by_key(rendered(*(word for name, value in values.items() for word in ("--set", f"{name}={value}"))))
    pod = at(things, "Deployment", "aibrix-extproc", "spec", "template", "spec")
    container = pod["containers"][0]
    env = {one["name"]: one["value"] for one in container["env"]}
    assert (container["image"], container["imagePullPolicy"]) == ("registry.example.com/x:7a", "Always")
    assert container["resources"]["requests"] == {"cpu": 2, "memory": "256Mi"}
    assert env["AIBRIX_EXTPROC_ROUTING__STRATEGY"] == "random"
    assert env["AIBRIX_EXTPROC_KUBERNETES__NAMESPACES"] == "aibrix-extproc-system,one,two"
    assert (pod["nodeSelector"], pod["priorityClassName"], pod["tolerations"]) == (
        {"disk": "fast"},
        "high",
        [{"key": "gpu"}],
    )
    assert pod["volumes"][0]["secret"]["secretName"] == "k"
    annotations = at(things, "Deployment", "aibrix-extproc", "spec", "template", "metadata", "annotations")
    assert annotations == {"a": "b"}
    assert at(things, "ServiceAccount", "aibrix-extproc", "imagePullSecrets") == [{"name": "login"}]
    assert at(things, "ServiceAccount", "aibrix-extproc", "metadata", "annotations") == {"c": "d"}
    scaling = at(things, "HorizontalPodAutoscaler", "aibrix-extproc", "spec")
    assert (scaling["minReplicas"], scaling["maxReplicas"]) == (3, 5)
    proxy = at(things, "EnvoyProxy", "aibrix-extproc", "spec")
    kubernetes = proxy["provider"]["kubernetes"]
    assert (kubernetes["envoyDeployment"]["replicas"], proxy["shutdown"]["drainTimeout"]) == (4, "2h")
    assert kubernetes["envoyService"] == {"type": "NodePort", "name": "aibrix-extproc", "annotations": {"e": "f"}}
    listener = at(things, "Gateway", "aibrix-extproc", "spec", "listeners", 0)
    assert listener["tls"]["certificateRefs"] == [{"name": "t"}]
    assert at(things, "Service", "aibrix-engines", "spec", "selector") == {"model.aibrix.ai/name": "m"}
    first = at(things, "NetworkPolicy", "aibrix-extproc", "spec", "ingress", 0, "from", 0)
    assert first["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "eg"}
    for namespace in ("one", "two"):
        subjects = at(things, "RoleBinding", "aibrix-extproc-fleet", "subjects", namespace=namespace)
        assert [one["name"] for one in subjects] == ["aibrix-extproc", "aibrix-extproc-metadata"]
        assert {one["namespace"] for one in subjects} == {"aibrix-extproc-system"}


def test_values_of_the_metadata_service_come_in_where_they_say() -> None:
    values = {
        "metadata.enabled": "true", "metadata.replicas": "3", "metadata.workers": "4", "metadata.env[0].name": "A",
        "metadata.env[0].value": "b", "metadata.gatewayUrl": "https://llm.example.com",
        "metadata.resources.requests.cpu": "2", "metadata.workerResources.requests.cpu": "3",
        "metadata.serviceAccount.annotations.role": "r", "namespaces[0]": "one",
    }  # fmt: skip
    things = by_key(rendered(*(word for name, value in values.items() for word in ("--set", f"{name}={value}"))))
    for name, replicas, cpu in (("aibrix-extproc-metadata", 3, 2), ("aibrix-extproc-metadata-worker", 4, 3)):
        spec = at(things, "Deployment", name, "spec")
        (container,) = spec["template"]["spec"]["containers"]
        assert (spec["replicas"], container["resources"]["requests"]["cpu"]) == (replicas, cpu)
        assert {"name": "A", "value": "b"} in container["env"]
        wanted = {"name": "AIBRIX_EXTPROC_KUBERNETES__NAMESPACES", "value": "aibrix-extproc-system,one"}
        assert wanted in container["env"]
    env = {one["name"]: one.get("value") for one in container["env"]}
    assert env["AIBRIX_EXTPROC_METADATA__GATEWAY_URL"] == "https://llm.example.com"
    account = at(things, "ServiceAccount", "aibrix-extproc-metadata", "metadata")
    assert account["annotations"] == {"role": "r"}


def test_values_of_redis_come_in_where_they_say() -> None:
    values = {
        "redis.enabled": "true", "redis.image": "registry.example.com/valkey:9", "redis.resources.requests.cpu": "2",
        "image.pullPolicy": "Always", "image.pullSecrets[0].name": "login", "nodeSelector.disk": "fast",
    }  # fmt: skip
    things = by_key(rendered(*(word for name, value in values.items() for word in ("--set", f"{name}={value}"))))
    pod = at(things, "Deployment", "aibrix-extproc-redis", "spec", "template", "spec")
    (container,) = pod["containers"]
    assert (container["image"], container["imagePullPolicy"]) == ("registry.example.com/valkey:9", "Always")
    assert container["resources"]["requests"]["cpu"] == 2
    assert (pod["imagePullSecrets"], pod["nodeSelector"]) == ([{"name": "login"}], {"disk": "fast"})


def test_volume_is_as_large_as_it_says_and_its_url_follows_envoy_gateway() -> None:
    options = {"metadataVolume.enabled": "true", "metadataVolume.size": "7Gi", "metadataVolume.storageClass": "fast",
               "metadata.replicas": "3", "envoyGateway.namespace": "eg"}  # fmt: skip
    things = by_key(rendered(*(word for name, value in options.items() for word in ("--set", f"{name}={value}"))))
    claim = at(things, "PersistentVolumeClaim", "aibrix-extproc-metadata", "spec")
    assert (claim["resources"]["requests"]["storage"], claim["storageClassName"]) == ("7Gi", "fast")
    spec = at(things, "Deployment", "aibrix-extproc-metadata", "spec")
    env = {one["name"]: one.get("value") for one in spec["template"]["spec"]["containers"][0]["env"]}
    assert spec["replicas"] == 1
    assert env["AIBRIX_EXTPROC_METADATA__GATEWAY_URL"] == "http://aibrix-extproc.eg.svc"


def test_certificates_have_the_name_that_envoys_expect_in_any_namespace(tmp_path: Path) -> None:
    """Of the chart and of an overlay that was moved alike."""
    folder, component = tmp_path / "certificates", "manifests/components/mutual-tls"
    assert main(["certificates", str(folder), "--namespace", "llm-gateway"]) == 0
    certificate = x509.load_pem_x509_certificate((folder / "server" / "tls.crt").read_bytes())
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    moved = kustomized_with(resources=["manifests/base"], components=[component], namespace="llm-gateway")
    for things in (moved, rendered(*on("components/mutual-tls"), namespace="llm-gateway")):
        (policy,) = [thing for thing in things if thing["kind"] == "BackendTLSPolicy"]
        assert policy["spec"]["validation"]["hostname"] in alternatives.get_values_for_type(x509.DNSName)
