"""The endpoint picker's overlay: it picks from the pool that stands beside it, and may only read."""

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
