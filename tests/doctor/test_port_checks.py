"""Whether doctor sees that the ext_proc port is open to the cluster, and certificates and keys that do not fit."""

import copy
from typing import Any

import pytest
import yaml

from aibrix_extproc.doctor.diagnose import diagnose
from aibrix_extproc.doctor.finding import Finding, Severity
from aibrix_extproc.doctor.objects import Cluster, thing_of
from tests.doctor.test_doctor import MIB, changed, examined, manifests
from tests.manifests.built import built

FROM = "spec.ingress.0.from"
EVERYBODY: list[dict[str, Any]] = [{"namespaceSelector": {}}]


def guarded(objects: list[dict[str, Any]]) -> list[Finding]:
    return [one for one in examined(objects) if one.check == "guarded"]


def without(objects: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [one for one in objects if one["kind"] not in kinds]


def build(name: str) -> list[dict[str, Any]]:
    return copy.deepcopy([dict(one) for one in built(name)])


def the(objects: list[dict[str, Any]], kind: str) -> Any:
    return next(one for one in objects if one["kind"] == kind and one["metadata"]["name"].startswith("aibrix"))


def variables(objects: list[dict[str, Any]]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = the(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]
    return found


def test_doctor_finds_a_port_that_no_network_policy_closes() -> None:
    (found,) = guarded(without(manifests(), "NetworkPolicy"))
    assert found.severity is Severity.WARNING
    assert "9002 is open to the whole cluster" in found.notice


@pytest.mark.parametrize(
    ("value", "open_to_all"),
    [
        ([], True),
        (EVERYBODY, True),
        ([{"ipBlock": {"cidr": "0.0.0.0/0"}}], True),
        ([{"namespaceSelector": {}, "podSelector": {}}], True),
        ([{"ipBlock": {"cidr": "10.0.0.0/8"}}], False),
        ([{"podSelector": {}}], False),
        ([{"namespaceSelector": {"matchLabels": {"a": "b"}}}], False),
        ([{"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}}], False),
        ([{"namespaceSelector": {}, "podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}], False),
    ],
)
def test_doctor_finds_a_network_policy_that_lets_everybody_in(value: object, open_to_all: bool) -> None:
    found = guarded(changed("NetworkPolicy", FROM, value))
    assert [one.severity for one in found] == [Severity.WARNING] * open_to_all
    assert all("it lets everybody in" in one.notice for one in found)


def test_doctor_does_not_mind_an_open_port_that_is_not_that_of_the_processor() -> None:
    objects = manifests()
    the(objects, "NetworkPolicy")["spec"]["ingress"].append({"ports": [{"port": "admin"}]})
    assert guarded(objects) == []


def test_doctor_needs_no_network_policy_where_certificates_are_asked_for() -> None:
    assert guarded(without(build("components/mutual-tls"), "NetworkPolicy")) == []


def test_doctor_finds_nothing_in_mutual_tls_as_it_ships() -> None:
    assert guarded(build("components/mutual-tls")) == []
    assert guarded(build("overlays/production")) == []


def test_doctor_finds_probes_that_have_no_certificate() -> None:
    objects = build("components/mutual-tls")
    container = the(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    container["readinessProbe"]["grpc"]["port"] = 9002
    (found,) = guarded(objects)
    assert (found.severity, found.field) == (Severity.ERROR, "spec.template.spec.containers[0].readinessProbe")


def test_doctor_finds_envoys_that_speak_no_tls_or_have_no_certificate() -> None:
    objects = build("components/mutual-tls")
    (found,) = guarded(without(objects, "BackendTLSPolicy"))
    assert found.severity is Severity.ERROR
    assert "no BackendTLSPolicy" in found.notice
    the(objects, "BackendTLSPolicy")["spec"]["targetRefs"][0]["name"] = "other"
    assert len(guarded(objects)) == 1
    bare = [one for one in build("components/mutual-tls") if one["metadata"]["name"] != "aibrix-extproc-certificate"]
    (found,) = guarded(bare)
    assert "certificate on" in found.notice
    objects = build("components/mutual-tls")
    del the(objects, "EnvoyProxy")["spec"]["backendTLS"]
    (found,) = guarded(objects)
    assert (found.severity, found.field) == (Severity.ERROR, "spec.backendTLS.clientCertificateRef")


def test_doctor_finds_metering_without_shared_keys() -> None:
    objects = build("components/metering")
    assert guarded(objects) == []
    variables(objects)[:] = [one for one in variables(objects) if "NOTE_KEYS" not in one["name"]]
    (found,) = guarded(objects)
    assert found.severity is Severity.WARNING
    assert "share no note keys" in found.notice


def test_doctor_accepts_the_picker_as_it_ships_and_finds_it_open() -> None:
    assert [(one.check, one.severity) for one in picker(build("overlays/picker"))] == [("gateway", Severity.NOTE)]
    objects = build("overlays/picker")
    del the(objects, "NetworkPolicy")["spec"]["ingress"][0]["from"]
    assert ("guarded", Severity.WARNING) in [(one.check, one.severity) for one in picker(objects)]
    bare = without(build("overlays/picker"), "NetworkPolicy")
    assert ("guarded", Severity.WARNING) in [(one.check, one.severity) for one in picker(bare)]


def picker(objects: list[dict[str, Any]]) -> list[Finding]:
    """Findings but for the image, which no registry has."""
    text = yaml.safe_dump(objects).replace("image: aibrix-extproc:", "image: registry.example.com/aibrix-extproc:")
    things = tuple(thing for one in yaml.safe_load(text) if (thing := thing_of(one)) is not None)
    return diagnose(Cluster(things, live=False), 50 * MIB)


@pytest.mark.parametrize(
    ("matches", "found"),
    [
        ([{"path": {"type": "Exact", "value": "/x"}}], True),
        ([], True),
        ([{"headers": [{"name": "x-other", "value": "y"}]}], True),
        ([{"headers": [{"name": "target-pod", "value": "y"}]}, {}], True),
        ([{"headers": [{"name": "x-other", "value": "y"}, {"name": "Target-Pod", "value": "y"}]}], False),
    ],
)
def test_doctor_finds_a_route_by_which_clients_reach_the_processor(matches: list[Any], found: bool) -> None:
    objects = build("components/mutual-tls")
    route = next(one for one in objects if one["metadata"]["name"] == "aibrix-extproc-certificate")
    route["spec"]["rules"][0]["matches"] = matches
    told = [one for one in examined(objects) if one.subject.startswith("HTTPRoute")]
    assert [(one.check, one.severity) for one in told] == [("unreachable", Severity.ERROR)] * found


def test_doctor_finds_nothing_in_the_route_that_hands_the_certificate_on() -> None:
    for name in ("components/mutual-tls", "overlays/production"):
        assert [one for one in examined(build(name)) if one.subject.startswith("HTTPRoute")] == []


def test_doctor_finds_a_policy_that_a_component_has_left_behind() -> None:
    policy = the(build("components/mutual-tls"), "BackendTLSPolicy")
    (found,) = guarded([*manifests(), policy])
    assert (found.severity, found.subject.partition(" ")[0]) == (Severity.ERROR, "BackendTLSPolicy")
    elsewhere = copy.deepcopy(policy)
    elsewhere["spec"]["targetRefs"][0]["name"] = "other"
    assert guarded([*manifests(), elsewhere]) == []
    assert guarded(build("components/mutual-tls")) == []
