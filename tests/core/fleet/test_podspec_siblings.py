"""InferencePools, ModelAdapters and EndpointSlices on their own."""

import json
from typing import Any

import msgspec
import pytest

from aibrix_extproc.core.fleet.kubernetes.endpointslice import translate_slice
from aibrix_extproc.core.fleet.kubernetes.inferencepool import active_ports, plan_of
from aibrix_extproc.core.fleet.kubernetes.modeladapter import with_adapters
from aibrix_extproc.core.fleet.kubernetes.objects import EndpointSlice, InferencePool, ModelAdapter, Pod
from aibrix_extproc.core.fleet.kubernetes.podspec import Translation, translate_pod
from aibrix_extproc.core.fleet.model import Health, ServedModel
from tests.kubeobjects import MODEL_LABEL, a_pod, a_pool, a_slice, an_adapter

ACTIVE = "llm-d.ai/active-ports"
OLD_ACTIVE = "inference.networking.k8s.io/active-ports"
ENABLED = "adapter.model.aibrix.ai/enabled"


def pod(**options: Any) -> Pod:
    return msgspec.json.decode(json.dumps(a_pod(**options)), type=Pod)


def pool(*ports: int, **options: Any) -> InferencePool:
    return msgspec.json.decode(json.dumps(a_pool("pool", *ports, **options)), type=InferencePool)


def slice_(*args: Any, **options: Any) -> EndpointSlice:
    return msgspec.json.decode(json.dumps(a_slice(*args, **options)), type=EndpointSlice)


def adapter(*args: Any, **options: Any) -> ModelAdapter:
    return msgspec.json.decode(json.dumps(an_adapter(*args, **options)), type=ModelAdapter)


def test_pool_gives_a_selector_and_each_port_once() -> None:
    plan = plan_of(pool(8000, 8001, 8000, selector={"b": "2", "a.io/x": ""}))
    assert (plan.selector, plan.ports, plan.warnings) == ("a.io/x=,b=2", (8000, 8001), ())


@pytest.mark.parametrize(
    "selector",
    [{}, {"a,b": "c"}, {"a": "b,c=d"}, {"a": "!"}, {"": "x"}, {"a": "x\n"}],
    ids=["none", "comma-in-key", "comma-in-value", "odd-value", "no-key", "line-break"],
)
def test_pool_whose_selector_cannot_be_meant_selects_nothing(selector: dict[str, str]) -> None:
    plan = plan_of(pool(8000, selector=selector))
    assert (plan.selector, len(plan.warnings)) == ("", 1)


def test_pool_with_ports_out_of_range_uses_the_others() -> None:
    assert plan_of(pool(0, 8000, 70_000)).ports == (8000,)
    assert len(plan_of(pool(0, 8000, 70_000)).warnings) == 2
    assert plan_of(pool(0)).selector == ""


@pytest.mark.parametrize(
    ("annotations", "ports", "warnings"),
    [
        ({}, (1, 2, 3), 0),
        ({ACTIVE: "3,1"}, (1, 3), 0),
        ({ACTIVE: " 2 , "}, (2,), 0),
        ({OLD_ACTIVE: "1"}, (1,), 0),
        ({ACTIVE: "2", OLD_ACTIVE: "1"}, (2,), 0),
        ({ACTIVE: ""}, (), 0),
        ({ACTIVE: "1,9,x"}, (1,), 2),
    ],
    ids=["none", "two", "spaces", "old-name", "both-names", "empty", "unknown-and-broken"],
)
def test_active_ports_restrict_the_ports_of_the_pool(
    annotations: dict[str, str], ports: tuple[int, ...], warnings: int
) -> None:
    found, said = active_ports(pod(annotations=annotations), (1, 2, 3))
    assert (found, len(said)) == (ports, warnings)


def test_adapter_is_a_model_of_each_endpoint_with_its_base_as_parent() -> None:
    one = pod(env={"data-parallel-size": "2"})
    given = with_adapters(
        translate_pod(one), {MODEL_LABEL: "chat-m"}, [adapter("lora-b"), adapter("lora-a", base=None)]
    )
    models = (ServedModel("chat-m"), ServedModel("lora-a", "chat-m"), ServedModel("lora-b", "chat-m"))
    assert [endpoint.models for endpoint in given.endpoints] == [models, models]


@pytest.mark.parametrize(("value", "served"), [("true", True), ("false", False), ("", False)])
def test_adapter_on_a_pod_counts_unless_the_pod_says_that_it_takes_none(value: str, served: bool) -> None:
    given = with_adapters(translate_pod(pod()), {ENABLED: value}, [adapter("lora")])
    assert (len(given.endpoints[0].models) == 2) is served
    assert bool(given.warnings) is not served


def test_adapter_does_not_hide_models_that_only_the_engine_knows() -> None:
    given = with_adapters(translate_pod(pod(labels={})), {}, [adapter("lora")])
    assert given.endpoints[0].models == ()


def test_slice_gives_an_endpoint_for_each_address() -> None:
    translation = translate_slice(slice_("bare-metal", "192.168.1.5", "192.168.1.6"))
    assert [one.address for one in translation.endpoints] == ["192.168.1.5:9000", "192.168.1.6:9000"]
    assert {one.health for one in translation.endpoints} == {Health.READY}
    assert translation.endpoints[0].models == (ServedModel("chat-m"),)
    assert translation.endpoints[0].name == "llm/bare-metal"


def test_slice_of_ipv6_writes_brackets() -> None:
    assert translate_slice(slice_("v6", "fd00::5", family="IPv6")).endpoints[0].address == "[fd00::5]:9000"


@pytest.mark.parametrize(
    ("conditions", "health"),
    [
        ({"ready": True}, Health.READY),
        ({}, Health.UNKNOWN),
        ({"ready": None}, Health.UNKNOWN),
        ({"ready": False}, Health.NOT_READY),
        ({"ready": False, "serving": True, "terminating": True}, Health.DRAINING),
    ],
    ids=["ready", "unsaid", "null", "not-ready", "terminating"],
)
def test_conditions_of_a_slice_decide_whether_its_endpoints_may_be_picked(conditions: Any, health: Health) -> None:
    assert translate_slice(slice_("s", "192.168.1.5", conditions=conditions)).endpoints[0].health is health


def test_pods_of_a_slice_are_left_to_the_watch_of_pods() -> None:
    translation = translate_slice(slice_("s", "10.0.0.1", target="Pod"))
    assert (translation.endpoints, translation.warnings, bool(translation.left_out)) == ((), (), True)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"family": "FQDN"}, "FQDN"),
        ({"ports": ()}, "0 TCP ports"),
        ({"ports": ({"port": 1}, {"port": 2})}, "2 TCP ports"),
        ({"ports": ({"port": 70_000},)}, "70000"),
        ({"labels": {MODEL_LABEL: "m", "model.aibrix.ai/port": "x"}}, "'x'"),
    ],
    ids=["names", "no-port", "two-ports", "odd-port", "broken-label"],
)
def test_slice_that_cannot_be_used_is_left_out_with_a_remark(options: Any, word: str) -> None:
    translation = translate_slice(slice_("s", "192.168.1.5", **options))
    assert translation.endpoints == ()
    assert word in translation.warnings[0]


def test_port_label_decides_between_ports_of_a_slice() -> None:
    labels = {MODEL_LABEL: "m", "model.aibrix.ai/port": "2"}
    found = translate_slice(slice_("s", "192.168.1.5", ports=({"port": 1}, {"port": 2}), labels=labels))
    assert found.endpoints[0].address == "192.168.1.5:2"


def test_broken_address_of_a_slice_costs_only_its_own_endpoint() -> None:
    translation = translate_slice(slice_("s", "192.168.1.5", "nowhere"))
    assert (len(translation.endpoints), len(translation.warnings)) == (1, 1)


def test_slice_without_endpoints_gives_nothing() -> None:
    assert translate_slice(slice_("s")) == Translation(left_out="has only pods, which are watched as such")
