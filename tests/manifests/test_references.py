"""What one object says of another is true within each build: names, ports, labels, accounts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from tests.manifests.built import BUILDS, Thing, built, key, of_kind, only

pytestmark = pytest.mark.slow  # each build takes kubectl half a second

# What operators make themselves.
BY_HAND = {
    ("Secret", "aibrix-extproc-keys"), ("Secret", "aibrix-extproc-tls"), ("Secret", "aibrix-extproc-note-keys"),
    ("Secret", "aibrix-extproc-server-tls"), ("Secret", "aibrix-extproc-envoy-tls"),
    ("Secret", "aibrix-extproc-metadata"), ("Secret", "aibrix-extproc-metadata-store"),
    ("Secret", "aibrix-extproc-redis"),
    ("Secret", "huggingface"),
}  # fmt: skip
# What another component brings; a binding to it does no harm without it.
OF_OTHERS = {("components/all-namespaces", "aibrix-extproc-metadata")}
Pairs = Mapping[str, str]


def matches(selector: Pairs, labels: Pairs) -> bool:
    return all(labels.get(name) == value for name, value in selector.items())


def chooses(selector: Thing, labels: Pairs) -> bool:
    """Whether a selector with labels, or with lists of their values, is for these labels."""
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    lists = selector.get("matchExpressions", ())
    assert {one["operator"] for one in lists} <= {"In"}
    return matches(selector.get("matchLabels", {}), labels) and all(
        labels.get(one["key"]) in one["values"] for one in lists
    )


def pod_templates(things: Sequence[Thing]) -> list[tuple[str, Thing]]:
    return [(thing["metadata"]["namespace"], thing["spec"]["template"]) for thing in of_kind(things, "Deployment")]


def referred(thing: Any, namespace: str) -> Iterator[tuple[str, str, str]]:
    """(kind, namespace, name) of everything that an object names, wherever in it."""
    if isinstance(thing, list):
        for one in thing:
            yield from referred(one, namespace)
    if not isinstance(thing, dict):
        return
    for field, value in thing.items():
        match field, value:
            case "gatewayClassName", str():
                yield "GatewayClass", "", value
            case "parentRefs", list():
                yield from (("Gateway", namespace, one["name"]) for one in value)
            case "backendRefs", list():
                yield from (("Service", one.get("namespace", namespace), one["name"]) for one in value)
            case "certificateRefs", list():
                yield from (("Secret", namespace, one["name"]) for one in value)
            case ("targetRefs", list()) | (
                ("targetRef" | "scaleTargetRef" | "parametersRef" | "extensionRef" | "valueRef"),
                dict(),
            ):
                for one in value if isinstance(value, list) else [value]:
                    yield one["kind"], namespace, one["name"]
            case "roleRef", dict():
                yield value["kind"], "" if value["kind"] == "ClusterRole" else namespace, value["name"]
            case "subjects", list():
                yield from ((one["kind"], one["namespace"], one["name"]) for one in value)
            case "serviceAccountName", str():
                yield "ServiceAccount", namespace, value
            case "secretName", str():
                yield "Secret", namespace, value
            case (("secretKeyRef" | "secretRef"), dict()):
                yield "Secret", namespace, value["name"]
            case "claimName", str():
                yield "PersistentVolumeClaim", namespace, value
            case "configMap", dict():
                yield "ConfigMap", namespace, value["name"]
        yield from referred(value, namespace)


@pytest.mark.parametrize("build", BUILDS)
def test_object_named_by_another_is_there(build: str) -> None:
    things = built(build)
    there = {key(thing) for thing in things}
    named = {one for thing in things for one in referred(thing, thing["metadata"].get("namespace", ""))}
    missing = {one for one in named if one not in there and (one[0], one[2]) not in BY_HAND}
    assert {one for one in missing if (build, one[2]) not in OF_OTHERS} == set()


@pytest.mark.parametrize("build", BUILDS)
def test_namespace_of_an_object_is_made(build: str) -> None:
    things = built(build)
    made = {thing["metadata"]["name"] for thing in of_kind(things, "Namespace")}
    used = {thing["metadata"].get("namespace") for thing in things} - {None}
    assert used <= made or build.startswith("examples/") or build == "components/existing-namespace"


@pytest.mark.parametrize("build", BUILDS)
def test_port_named_by_a_route_is_one_of_the_service(build: str) -> None:
    things = built(build)
    ports = {key(thing)[1:]: {one["port"] for one in thing["spec"]["ports"]} for thing in of_kind(things, "Service")}

    def wrong(part: Any, namespace: str) -> Iterator[Any]:
        if isinstance(part, list):
            for one in part:
                yield from wrong(one, namespace)
        elif isinstance(part, dict):
            for one in part.get("backendRefs", ()):
                if one["port"] not in ports[(namespace, one["name"])]:
                    yield one
            for value in part.values():
                yield from wrong(value, namespace)

    assert [one for thing in things for one in wrong(thing, thing["metadata"].get("namespace", ""))] == []


def selectors(things: Sequence[Thing]) -> Iterator[tuple[str, str, Thing]]:
    """(what, namespace, selector) of everything that selects pods of ours."""
    for thing in things:
        kind, namespace, name = key(thing)
        what, spec = f"{kind} {name}", thing.get("spec", {})
        match kind:
            case "Service" if "selector" in spec:
                yield what, namespace, {"matchLabels": spec["selector"]}
            case "Deployment" | "PodDisruptionBudget":
                yield what, namespace, spec["selector"]
            case "NetworkPolicy":
                yield what, namespace, spec["podSelector"]
        if kind == "Deployment":
            for spread in spec["template"]["spec"].get("topologySpreadConstraints", ()):
                yield what, namespace, spread["labelSelector"]


@pytest.mark.parametrize("build", [one for one in BUILDS if one != "components/one-model"])
def test_selector_finds_pods(build: str) -> None:
    things = built(build)
    templates = pod_templates(things)
    assert [
        (what, selector)
        for what, namespace, selector in selectors(things)
        if not any(where == namespace and chooses(selector, one["metadata"]["labels"]) for where, one in templates)
    ] == []


def test_selector_of_one_model_is_the_simulators_model() -> None:
    """It has no engines of its own: tried together with the simulators."""
    (service,) = [
        one for one in of_kind(built("components/one-model"), "Service") if one["spec"]["ports"][0]["port"] == 8000
    ]
    templates = pod_templates(built("components/simulators"))
    found = [
        one["metadata"]["labels"]
        for _, one in templates
        if matches(service["spec"]["selector"], one["metadata"]["labels"])
    ]
    assert len(found) == 1
    assert int(found[0]["model.aibrix.ai/port"]) == service["spec"]["ports"][0]["port"]


@pytest.mark.parametrize("build", BUILDS)
def test_port_of_a_service_probe_or_policy_is_one_of_the_container(build: str) -> None:
    things = built(build)
    for namespace, template in pod_templates(things):
        containers = template["spec"]["containers"]
        declared = [one for container in containers for one in container.get("ports", ())]
        names, numbers = {one["name"] for one in declared}, {one["containerPort"] for one in declared}
        wanted: list[Any] = []
        for thing in things:
            kind, where, _ = key(thing)
            labels = template["metadata"]["labels"]
            if (
                kind == "Service"
                and where == namespace
                and matches(thing["spec"].get("selector", {"no": "pod"}), labels)
            ):
                wanted += [one.get("targetPort", one["port"]) for one in thing["spec"]["ports"]]
            if kind == "NetworkPolicy" and where == namespace and chooses(thing["spec"]["podSelector"], labels):
                wanted += [port["port"] for rule in thing["spec"]["ingress"] for port in rule["ports"]]
        for container in containers:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                how = container.get(probe, {})
                wanted += [how[kind]["port"] for kind in ("grpc", "httpGet", "tcpSocket") if kind in how]
        assert wanted
        assert set(wanted) <= names | numbers


@pytest.mark.parametrize("build", ["components/monitoring", "overlays/production"])
def test_service_monitor_and_its_network_policy_are_for_every_deployment_of_ours(build: str) -> None:
    things = built(build)
    (monitor,) = of_kind(things, "ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    found = [
        one for one in of_kind(things, "Service")
        if chooses(monitor["spec"]["selector"], one["metadata"].get("labels", {}))
    ]  # fmt: skip
    assert {one["metadata"]["name"] for one in found} == {
        one["metadata"]["name"]
        for one in of_kind(things, "Deployment")
        if one["spec"]["template"]["spec"]["containers"][0]["image"].startswith("aibrix-extproc:")
    }
    assert all(endpoint["port"] in {port["name"] for port in one["spec"]["ports"]} for one in found)
    policy = only(things, "NetworkPolicy", "aibrix-extproc-monitoring")
    labels = [template["metadata"]["labels"] for _, template in pod_templates(things)]
    for one in labels:
        watched = one["app.kubernetes.io/name"] in {service["metadata"]["name"] for service in found}
        assert chooses(policy["spec"]["podSelector"], one) is watched
