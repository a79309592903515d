"""Whether doctor sees that the Gateway's Envoys are kept from the processor."""

import copy
from typing import Any

import pytest

from aibrix_extproc.doctor.finding import Severity
from tests.doctor.test_doctor import changed, examined

FROM = "spec.ingress.0.from"
OWNED = "gateway.envoyproxy.io/owning-gateway-"


def envoys(**labels: str) -> list[dict[str, Any]]:
    return [{"podSelector": {"matchLabels": {f"{OWNED}{name}": value for name, value in labels.items()}}}]


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        (FROM, envoys(name="aibrix-extproc", namespace="elsewhere"), True),
        (FROM, envoys(name="other", namespace="aibrix-extproc-system"), True),
        (FROM, envoys(name="other") + envoys(namespace="aibrix-extproc-system"), False),
        (FROM, [{"ipBlock": {"cidr": "10.0.0.0/8"}}], False),
        (FROM, [], False),
        ("spec.ingress", [], True),
        ("spec.ingress.0.ports", [{"port": 9002}], False),
        ("spec.ingress.0.ports", [{"port": 9003}], True),
        ("spec.ingress.0.ports", [], False),
        ("spec.podSelector", {}, False),
        ("metadata.namespace", "elsewhere", False),  # it closes nothing of ours
        ("spec.policyTypes", ["Egress"], False),
    ],
)
def test_doctor_finds_a_network_policy_that_keeps_the_envoys_out(path: str, value: object, found: bool) -> None:
    errors = [one for one in examined(changed("NetworkPolicy", path, value)) if one.check == "envoys_may_pass"]
    assert [one.severity for one in errors] == [Severity.ERROR] * found
    assert all("every request is 503" in one.notice for one in errors)


def test_doctor_does_not_judge_network_policies_while_the_service_leads_nowhere() -> None:
    """Which is told by Envoy Gateway: 9002 is no port of it."""
    objects = changed("NetworkPolicy", "spec.ingress", [])
    service = next(one for one in objects if one["metadata"]["name"] == "aibrix-extproc" and one["kind"] == "Service")
    service["spec"]["ports"][0]["port"] = 9999
    assert [one for one in examined(objects) if one.check == "envoys_may_pass"] == []


def test_doctor_names_the_gateway_whose_envoys_a_network_policy_lets_in() -> None:
    (found,) = examined(changed("NetworkPolicy", FROM, envoys(name="aibrix-extproc", namespace="elsewhere")))
    assert "Gateway elsewhere/aibrix-extproc" in found.notice


def test_doctor_finds_no_network_policy_that_another_one_makes_up_for() -> None:
    objects = changed("NetworkPolicy", FROM, envoys(name="aibrix-extproc", namespace="elsewhere"))
    other = copy.deepcopy(next(one for one in objects if one["kind"] == "NetworkPolicy"))
    other["spec"]["ingress"] = [{}]
    found = examined([*objects, other | {"metadata": other["metadata"] | {"name": "other"}}])
    assert [one.check for one in found] == ["guarded"]  # which is another matter
