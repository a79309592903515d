"""The endpoint picker's overlay: it picks from the pool that stands beside it, and may only read."""

import copy
from typing import Any

import pytest

from aibrix_extproc.adapters.extproc.service import LIVENESS
from aibrix_extproc.adapters.kube.resources import ADAPTERS, PODS, POOLS, WATCHING
from aibrix_extproc.cli.main import parser_for
from aibrix_extproc.cli.picker import by_source
from aibrix_extproc.settings import Settings, Tls, build, read_environment
from tests.manifests.built import Thing, built, of_kind, only
from tests.manifests.test_processor import allowed, environment, rules

pytestmark = pytest.mark.slow  # each build takes kubectl half a second
NAME = "aibrix-picker"


def container() -> Thing:
    (found,) = only(built("overlays/picker"), "Deployment", NAME)["spec"]["template"]["spec"]["containers"]
    thing: Thing = found
    return thing


def settings() -> Settings:
    arguments = container()["args"]
    given = by_source(parser_for(arguments[0]).parse_args(arguments))
    return build({**given, "environment": read_environment(environment(container()))})


def test_picker_picks_from_the_pool_beside_it_and_the_pool_asks_it() -> None:
    things = built("overlays/picker")
    pool = only(things, "InferencePool", NAME)
    told = settings()
    assert told.kubernetes.enabled
    assert told.kubernetes.inference_pool == pool["metadata"]["name"]
    assert told.kubernetes.namespaces == (pool["metadata"]["namespace"],)
    asked = pool["spec"]["endpointPickerRef"]
    assert only(things, asked["kind"], asked["name"])
    assert asked["port"]["number"] == told.server.port
    assert told.server.tls is Tls.SELF_SIGNED  # gateways speak TLS with pickers


def test_picker_listens_where_its_ports_and_probes_are() -> None:
    told = settings()
    ports = {one["name"]: one["containerPort"] for one in container()["ports"]}
    assert ports == {"grpc": told.server.port, "health": told.server.health_port, "admin": told.admin.port}
    assert container()["readinessProbe"]["grpc"] == {"port": told.server.health_port, "service": "readiness"}
    for probe in ("startupProbe", "livenessProbe"):
        assert container()[probe]["grpc"] == {"port": told.server.health_port, "service": LIVENESS}


def test_picker_may_read_and_write_nothing() -> None:
    things = built("overlays/picker")
    wanted = allowed(PODS, WATCHING) | allowed(POOLS, WATCHING) | allowed(ADAPTERS, WATCHING)
    assert rules(only(things, "Role", NAME)) == wanted
    assert [one["metadata"]["name"] for one in of_kind(things, "Role")] == [NAME]
    assert of_kind(things, "ClusterRole") == []
    assert settings().kubernetes.publish_service is None


def test_picker_is_reached_by_gateways_at_its_service_and_by_prometheus_at_its_metrics() -> None:
    policy = only(built("overlays/picker"), "NetworkPolicy", NAME)["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    opened = {rule["ports"][0]["port"]: rule.get("from") for rule in policy["ingress"]}
    monitoring = only(built("components/monitoring"), "NetworkPolicy", "aibrix-extproc-monitoring")["spec"]["ingress"]
    (gateways,) = opened.pop("grpc")
    (rule,) = gateways["podSelector"]["matchExpressions"]
    assert rule == {"key": "gateway.networking.k8s.io/gateway-name", "operator": "Exists"}
    assert opened == {"admin": monitoring[0]["from"]}


def alike(build: str, name: str) -> Any:
    """A Deployment and its budget without what a picker is free to have of its own."""
    things = copy.deepcopy(built(build))
    spec = only(things, "Deployment", name)["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    for own in ("name", "args", "env", "ports"):
        del container[own]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        del container[probe]["grpc"]["port"]
    spec.pop("replicas", None)
    return str((spec, only(things, "PodDisruptionBudget", name)["spec"])).replace(f"'{name}'", "NAME")


def test_picker_is_deployed_as_the_processor_is_but_for_what_it_is_told() -> None:
    """The two Deployments are written out apart, since patches that turn one into the other are longer than both."""
    assert alike("overlays/picker", NAME) == alike("base", "aibrix-extproc")
    drain = "AIBRIX_EXTPROC_SERVER__DRAIN_SECONDS"
    (processor,) = only(built("base"), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert environment(container())[drain] == environment(processor)[drain]
