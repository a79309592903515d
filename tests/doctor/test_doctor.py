"""The shipped manifests are sound, and each thing that can be broken in them is found by its check."""

import copy
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aibrix_extproc.doctor.access_checks import Permission, denied, needed
from aibrix_extproc.doctor.diagnose import diagnose
from aibrix_extproc.doctor.finding import Finding, Severity
from aibrix_extproc.doctor.objects import Cluster, quantity, seconds, thing_of

BASE = Path(__file__).parents[2] / "manifests" / "base"
MIB = 1024 * 1024
GONE = object()
HEADER = [{"name": "X-Gateway-Destination-Endpoint", "type": "RegularExpression", "value": ".+"}]


@functools.cache
def read() -> list[dict[str, Any]]:
    names = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    return [one for name in names for one in yaml.safe_load_all((BASE / name).read_text()) if one]


def manifests() -> list[dict[str, Any]]:
    """With the image that an operator has pushed, and keys."""
    objects = copy.deepcopy(read())
    for one in objects:
        if one["kind"] == "Deployment":
            container = one["spec"]["template"]["spec"]["containers"][0]
            container["image"] = "registry.example.com/aibrix-extproc:1"
            container.setdefault("env", []).append({"name": "AIBRIX_EXTPROC_ACCESS__KEY_FILE", "value": "/keys.yaml"})
    return objects


def examined(objects: list[dict[str, Any]], *, live: bool = False) -> list[Finding]:
    things = tuple(thing for one in objects if (thing := thing_of(one)) is not None)
    return diagnose(Cluster(things, live=live), 50 * MIB)


def changed(kind: str, path: str, value: object) -> list[dict[str, Any]]:
    """The manifests with one field of the first object of a kind set, or removed."""
    objects = manifests()
    put(next(one for one in objects if one["kind"] == kind), path, value)
    return objects


def put(thing: dict[str, Any], path: str, value: object) -> None:
    """Set a field of an object, or remove it."""
    target: Any = thing
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in way:
        target = target[part]
    if value is GONE:
        del target[last]
    else:
        target[last] = value


def test_doctor_finds_nothing_in_the_shipped_manifests() -> None:
    assert examined(manifests()) == []


@pytest.mark.parametrize(
    ("kind", "severity"),
    [
        ("ClusterIP", Severity.NOTE),
        ("LoadBalancer", Severity.WARNING),
        ("NodePort", Severity.WARNING),
        (GONE, Severity.WARNING),
    ],
    ids=["cluster", "balancer", "node", "default"],
)
def test_doctor_says_that_there_are_no_keys_and_louder_where_the_world_may_come_in(
    kind: object, severity: Severity
) -> None:
    objects = changed("EnvoyProxy", "spec.provider.kubernetes.envoyService.type", kind)
    assert examined(objects) == [], "with keys"
    for one in objects:
        if one["kind"] == "Deployment":
            env = one["spec"]["template"]["spec"]["containers"][0]["env"]
            env[:] = [variable for variable in env if "KEY_FILE" not in variable["name"]]
    (found,) = examined(objects)
    assert (found.check, found.severity) == ("keyless", severity)
    assert "everyone who reaches the Gateway" in found.notice


EXT = "spec.extProc.0"
E, W = Severity.ERROR, Severity.WARNING


@pytest.mark.parametrize(
    ("kind", "path", "value", "check", "severity"),
    [
        ("EnvoyExtensionPolicy", f"{EXT}.failOpen", GONE, "processor", E),
        ("EnvoyExtensionPolicy", f"{EXT}.messageTimeout", GONE, "processor", W),
        ("EnvoyExtensionPolicy", f"{EXT}.messageTimeout", "0s", "processor", E),
        ("EnvoyExtensionPolicy", f"{EXT}.processingMode.allowModeOverride", False, "processor", E),
        ("EnvoyExtensionPolicy", f"{EXT}.processingMode.request.body", "Streamed", "processor", E),
        ("EnvoyExtensionPolicy", f"{EXT}.processingMode.response", GONE, "processor", E),
        ("EnvoyExtensionPolicy", f"{EXT}.processingMode.response.body", "Streamed", "processor", W),
        ("EnvoyExtensionPolicy", f"{EXT}.processingMode.response.attributes", ["request.id"], "processor", E),
        ("EnvoyExtensionPolicy", f"{EXT}.metadata", GONE, "processor", W),
        ("EnvoyExtensionPolicy", f"{EXT}.backendSettings.circuitBreaker", GONE, "processor_backend", W),
        ("EnvoyExtensionPolicy", f"{EXT}.backendSettings.healthCheck", GONE, "processor_backend", W),
        ("EnvoyExtensionPolicy", f"{EXT}.backendSettings.retry", {"numRetries": 2}, "processor_backend", W),
        ("EnvoyExtensionPolicy", f"{EXT}.backendRefs.0.name", "other", "deployed", E),
        ("EnvoyExtensionPolicy", "spec.targetRefs.0.name", "other", "gateway", E),
        ("EnvoyExtensionPolicy", "spec.lua", [{"type": "Inline"}], "metering", Severity.NOTE),
        ("ClientTrafficPolicy", "spec.targetRefs.0.name", "other", "early_removal", E),
        ("ClientTrafficPolicy", "spec.headers.earlyRequestHeaders.remove.0", "x-other", "early_removal", E),
        ("ClientTrafficPolicy", "spec.headers.earlyRequestHeaders.remove.3", "x-other", "early_removal", W),
        ("ClientTrafficPolicy", "spec.connection.bufferLimit", GONE, "client_limits", E),
        ("ClientTrafficPolicy", "spec.connection.bufferLimit", "4Mi", "client_limits", W),
        ("ClientTrafficPolicy", "spec.http2.initialStreamWindowSize", GONE, "client_limits", E),
        ("ClientTrafficPolicy", "spec.timeout.http.streamIdleTimeout", "30s", "client_limits", W),
        ("ClientTrafficPolicy", "spec.timeout.http.requestReceivedTimeout", "5s", "client_limits", W),
        ("ClientTrafficPolicy", "spec.path.escapedSlashesAction", "UnescapeAndForward", "client_limits", W),
        ("BackendTrafficPolicy", "spec.targetRefs.0.name", "other", "backend_traffic", E),
        ("BackendTrafficPolicy", "spec.loadBalancer.endpointOverride", GONE, "backend_traffic", E),
        ("BackendTrafficPolicy", "spec.healthCheck.panicThreshold", 50, "backend_traffic", E),
        ("BackendTrafficPolicy", "spec.retry", GONE, "backend_traffic", W),
        ("BackendTrafficPolicy", "spec.retry.numRetries", 7, "backend_traffic", W),
        ("BackendTrafficPolicy", "spec.retry.perRetry.timeout", "60s", "backend_traffic", E),
        ("BackendTrafficPolicy", "spec.timeout.http.streamIdleTimeout", "15s", "backend_traffic", W),
        ("BackendTrafficPolicy", "spec.circuitBreaker.maxParallelRequests", GONE, "backend_traffic", W),
        ("BackendTrafficPolicy", "spec.responseOverride", [{"match": {}}], "backend_traffic", W),
        ("BackendTrafficPolicy", "spec.compression", [{"type": "Gzip"}], "backend_traffic", W),
        ("BackendTrafficPolicy", "spec.routingType", "Service", "backend_traffic", E),
        ("HTTPRoute", "spec.rules.0.matches", [{"path": {"value": "/"}}], "placed_rule", E),
        ("HTTPRoute", "spec.rules.0.timeouts", {"request": "60s"}, "timeouts", W),
        ("HTTPRoute", "spec.rules.0.timeouts", {"request": "0s", "backendRequest": "5s"}, "timeouts", E),
        ("HTTPRoute", "spec.rules.0.retry", {"attempts": 1}, "timeouts", W),
        ("HTTPRoute", "spec.rules.0.backendRefs.0.name", "other", "backends", E),
        ("HTTPRoute", "spec.rules.0.backendRefs.0.filters", [{"type": "RequestHeaderModifier"}], "backends", E),
        ("HTTPRoute", "spec.rules.1.filters", [], "catch_all", E),
        ("HTTPRoute", "spec.rules.0.matches.1", {"path": {"value": "/other"}, "headers": HEADER}, "shadowed", E),
        ("HTTPRoute", "spec.rules.2.matches.0.path.value", "/v1/chat/", "shadowed", E),
        ("HTTPRoute", "spec.rules.2.matches.0.path", {"type": "Exact", "value": "/v1/models"}, "shadowed", E),
        ("HTTPRoute", "spec.rules.0.filters",
         [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["X-Gateway-Destination-Endpoint"]}}],
         "header_survives", E),
        ("HTTPRouteFilter", "spec.directResponse.contentType", "text/plain", "catch_all", W),
        ("EnvoyProxy", "spec.shutdown", GONE, "envoy_proxy", W),
        ("EnvoyProxy", "spec.routingType", "Service", "envoy_proxy", E),
        ("Gateway", "spec.infrastructure", GONE, "envoy_proxy", W),
        ("GatewayClass", "spec.controllerName", "example.net/other", "gateway_class", E),
        ("Deployment", "spec.template.spec.terminationGracePeriodSeconds", 30, "deployed", W),
        ("Deployment", "spec.template.spec.containers.0.env", [], "deployed", Severity.NOTE),
        ("Deployment", "spec.template.spec.containers.0.args", ["serve", "--metering"], "metering", E),
        ("HorizontalPodAutoscaler", "spec.minReplicas", 1, "deployed", W),
    ],
)  # fmt: skip
def test_doctor_finds_a_broken_field(kind: str, path: str, value: object, check: str, severity: Severity) -> None:
    found = examined(changed(kind, path, value))
    assert (check, severity) in {(one.check, one.severity) for one in found}, found
    assert all(one.notice and one.fix and one.subject for one in found)


def test_doctor_lets_other_paths_have_answers_of_their_own() -> None:
    for path in ("/status", "/v1/messagesx", "/v1/chat/completions/extra"):
        assert examined(changed("HTTPRoute", "spec.rules.2.matches.0.path.value", path)) == []


def test_doctor_holds_buffer_limits_against_the_deployed_size() -> None:
    objects = changed(
        "Deployment", "spec.template.spec.containers.0.args", ["serve", "--max-body-bytes", str(200 * MIB)]
    )
    assert {one.field for one in examined(objects) if one.check == "client_limits"} == {
        "spec.connection.bufferLimit", "spec.http2.initialStreamWindowSize",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("args", "env", "retries", "fix"),
    [
        ([], {}, 3, None),
        ([], {}, 4, "numRetries: 3"),
        (["--destinations=2"], {}, 1, None),
        (["--destinations=2"], {}, 3, "numRetries: 1"),
        (["--destinations", "8"], {}, 7, None),
        ([], {"AIBRIX_EXTPROC_ROUTING__DESTINATIONS": "6"}, 5, None),
        ([], {"AIBRIX_EXTPROC_ROUTING__DESTINATIONS": "6"}, 6, "numRetries: 5"),
        (["--destinations=1"], {}, 0, "routing.destinations to 4"),
    ],
)
def test_doctor_holds_retries_against_the_deployed_length_of_the_list(
    args: list[str], env: dict[str, str], retries: int, fix: str | None
) -> None:
    objects = changed("BackendTrafficPolicy", "spec.retry.numRetries", retries)
    deployment = next(one for one in objects if one["kind"] == "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["args"] = ["serve", *args]
    container["env"] += [{"name": name, "value": value} for name, value in env.items()]
    found = [one.fix for one in examined(objects) if one.field.startswith("spec.retry")]
    assert len(found) == (fix is not None)
    assert all(str(fix) in one for one in found)


@pytest.mark.parametrize(
    ("env", "severities"),
    [
        ([], [Severity.NOTE]),  # as the image says, which cannot be seen from here
        ([{"value": "127.0.0.1"}], [E]),
        ([{"value": "localhost"}], [E]),
        ([{"value": "10.1.2.3"}], []),
        ([{"valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}], []),
    ],
)
def test_doctor_finds_a_listener_that_only_its_own_pod_reaches(
    env: list[dict[str, Any]], severities: list[Severity]
) -> None:
    given = [{"name": "AIBRIX_EXTPROC_SERVER__HOST", **one} for one in env]
    objects = changed("Deployment", "spec.template.spec.containers.0.env", given)
    assert [one.severity for one in examined(objects) if "listens" in one.notice] == severities


def test_doctor_finds_a_route_policy_that_takes_the_processor_away() -> None:
    policy = {
        "kind": "EnvoyExtensionPolicy",
        "metadata": {"name": "own", "namespace": "aibrix-extproc-system"},
        "spec": {"targetRefs": [{"kind": "HTTPRoute", "name": "aibrix-extproc"}]},
    }
    assert [one.check for one in examined([*manifests(), policy])] == ["overrides"]


def accepted() -> Iterator[dict[str, Any]]:
    """The manifests with the status that controllers give them."""
    good = [{"type": kind, "status": "True"} for kind in ("Accepted", "Programmed", "ResolvedRefs")]
    for one in manifests():
        if one["kind"] == "HTTPRoute":
            yield {**one, "status": {"parents": [{"parentRef": {"name": "aibrix-extproc"}, "conditions": good}]}}
        elif one["kind"].endswith("Policy"):
            yield {**one, "status": {"ancestors": [{"conditions": copy.deepcopy(good)}]}}
        else:
            yield {**one, "status": {"conditions": good, "readyReplicas": 2}}


def of_live(*more: dict[str, Any]) -> list[dict[str, Any]]:
    slice_ = {
        "kind": "EndpointSlice",
        "metadata": {
            "name": "aibrix-engines-1",
            "namespace": "aibrix-extproc-system",
            "labels": {
                "kubernetes.io/service-name": "aibrix-engines",
                "endpointslice.kubernetes.io/managed-by": "aibrix-extproc",
            },
        },
        "endpoints": [{"addresses": ["10.1.1.1"], "conditions": {"ready": False}}],
    }
    return [*accepted(), slice_, *more]


def controller(tag: str) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "metadata": {"name": "envoy-gateway", "namespace": "envoy-gateway-system"},
        "spec": {"template": {"spec": {"containers": [{"image": f"docker.io/envoyproxy/gateway:{tag}"}]}}},
    }


@pytest.mark.parametrize(("ready", "found"), [(0, (E, "status.readyReplicas")), (2, (W, "status.unavailableReplicas"))])
def test_doctor_sees_pods_that_do_not_become_ready(ready: int, found: tuple[Severity, str]) -> None:
    objects = of_live(controller("v1.9.1"))
    (deployment,) = [one for one in objects if one["kind"] == "Deployment" and "readyReplicas" in one.get("status", {})
                     and one["metadata"]["name"] == "aibrix-extproc"]  # fmt: skip
    deployment["status"] |= {"readyReplicas": ready, "unavailableReplicas": 1}
    assert [(one.severity, one.field) for one in examined(objects, live=True)] == [found]


def test_doctor_finds_nothing_in_a_good_cluster() -> None:
    assert examined(of_live(controller("v1.9.1")), live=True) == []


def test_doctor_finds_an_envoy_gateway_that_is_too_old() -> None:
    assert [one.check for one in examined(of_live(controller("v1.6.2")), live=True)] == ["version"]


def checks_of_lua(text: str) -> set[str]:
    """What the doctor finds where policies have Lua and Envoy Gateway this configuration."""
    objects = of_live(controller("v1.9.1"))
    for one in objects:
        if one["kind"] == "EnvoyExtensionPolicy":
            one["spec"]["lua"] = [{"type": "Inline"}]
    config: dict[str, Any] = {
        "kind": "ConfigMap",
        "metadata": {"name": "envoy-gateway-config", "namespace": "envoy-gateway-system"},
        "data": {"envoy-gateway.yaml": text},
    }
    return {one.check for one in examined([*objects, config], live=True)}


def test_doctor_finds_lua_that_is_not_switched_on() -> None:
    assert "lua_switch" in checks_of_lua("extensionApis:\n  enableBackend: true\n")
    assert "lua_switch" not in checks_of_lua("extensionApis:\n  enableLua: true\n")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"type": "Accepted", "status": "False", "reason": "Invalid", "message": "no ready endpoints"}, "no ready"),
        ({"type": "Overridden", "status": "True", "message": "by the route own"}, "by the route own"),
    ],
)
def test_doctor_tells_what_the_controller_says_of_a_policy(status: dict[str, str], words: str) -> None:
    objects = of_live(controller("v1.9.1"))
    policy = next(one for one in objects if one["kind"] == "ClientTrafficPolicy")
    conditions = policy["status"]["ancestors"][0]["conditions"]
    conditions[:] = [one for one in conditions if one["type"] != status["type"]] + [status]
    found = [one for one in examined(objects, live=True) if one.check == "conditions"]
    assert len(found) == 1
    assert words in found[0].notice


def test_doctor_lets_the_policy_of_our_route_override_that_of_the_gateway() -> None:
    """And what a policy's other Gateways say is theirs."""
    ours = {"kind": "Gateway", "name": "aibrix-extproc", "namespace": "aibrix-extproc-system"}
    overridden = [{"type": "Accepted", "status": "True"}, {"type": "Overridden", "status": "True"}]
    refused = [{"type": "Accepted", "status": "False", "reason": "Conflicted"}]
    policy: dict[str, Any] = {
        "kind": "BackendTrafficPolicy",
        "metadata": {"name": "own", "namespace": "aibrix-extproc-system"},
        "spec": {"targetRefs": [ours]},
        "status": {"ancestors": [
            {"ancestorRef": ours, "conditions": overridden},
            {"ancestorRef": {**ours, "name": "other"}, "conditions": refused},
        ]},
    }  # fmt: skip
    objects = of_live(controller("v1.9.1"), policy)
    assert examined(objects, live=True) == []
    policy["status"]["ancestors"][1]["ancestorRef"] = ours
    assert ["Conflicted" in one.notice for one in examined(objects, live=True)] == [True]


def test_doctor_finds_engines_that_are_not_published_or_published_as_ready() -> None:
    objects = of_live(controller("v1.9.1"))
    slice_ = next(one for one in objects if one["kind"] == "EndpointSlice")
    slice_["endpoints"][0]["conditions"] = {"ready": True}
    assert [one.check for one in examined(objects, live=True)] == ["backends"]
    slice_["endpoints"] = []
    assert ["no endpoints are published" in one.notice for one in examined(objects, live=True)] == [True]


def every_path(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if way:
        yield way
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from every_path(inner, (*way, key))


@pytest.mark.slow
@pytest.mark.parametrize("value", [None, 1, "x", [1], {"a": 1}], ids=repr)
def test_doctor_never_raises_whatever_any_field_holds(value: object) -> None:
    objects = of_live(controller("v1.9.1"))
    for *way, last in list(every_path(objects)):
        target: Any = objects
        for part in way:
            target = target[part]
        kept, target[last] = target[last], value
        if way:  # an object is a mapping, as Kubernetes sends it
            examined(objects, live=True)
        target[last] = kept


def test_denied_names_the_missing_rule_once_for_each_kind() -> None:
    wanted = needed(("llm",), own="aibrix-extproc-system", pool=False, publishes="engines", lease="leader")
    found = list(denied("ServiceAccount a/b", {one: one.resource not in ("pods", "leases") for one in wanted}))
    assert [(one.field, one.severity) for one in found] == [("pods", E), ("leases.coordination.k8s.io", E)]
    assert 'verbs: ["get", "list", "watch"]' in found[0].fix
    assert Permission("create", "discovery.k8s.io", "endpointslices", "aibrix-extproc-system") in wanted


def test_needed_asks_by_name_for_what_a_role_may_allow_by_name() -> None:
    wanted = needed(("llm",), own="aibrix-extproc-system", pool=False, publishes="engines", lease="leader")
    assert {(one.verb, one.resource, one.name) for one in wanted if one.name or one.resource == "leases"} == {
        ("create", "leases", ""),
        ("get", "leases", "leader"),
        ("update", "leases", "leader"),
        ("get", "services", "engines"),
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [("0s", 0), ("1h30m", 5400), ("500ms", 0.5), ("15s", 15), ("", None), ("5", None), (5, None), ("1d", None)],
)
def test_seconds_reads_durations_of_the_gateway_api(text: object, value: float | None) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("50Mi", 50 * MIB), (1000, 1000), ("1k", 1000), ("x", None), (None, None), (True, None)]
)
def test_quantity_reads_numbers_of_kubernetes(text: object, value: int | None) -> None:
    assert quantity(text) == value
