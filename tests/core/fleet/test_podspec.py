"""Pods to endpoints: a table of labels, annotations and states, and of everything that can be wrong with them."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.kubernetes.objects import Pod
from aibrix_extproc.core.fleet.kubernetes.podspec import CONFIG, ENGINE, LABELS, Translation, slimmed, translate_pod
from aibrix_extproc.core.fleet.model import Endpoint, Health, ServedModel
from aibrix_extproc.core.fleet.modelconfig import parse_config
from tests.kubeobjects import MODEL_LABEL, a_pod

PORT = "model.aibrix.ai/port"


def pod(*args: Any, **options: Any) -> Pod:
    return msgspec.json.decode(json.dumps(a_pod(*args, **options)), type=Pod)


def only(translation: Translation) -> Endpoint:
    (endpoint,) = translation.endpoints
    return endpoint


def test_ready_pod_with_a_model_label_is_a_ready_endpoint_on_port_8000() -> None:
    translation = translate_pod(pod())
    endpoint = only(translation)
    assert (endpoint.address, endpoint.health, endpoint.engine) == ("10.0.0.1:8000", Health.READY, "vllm")
    assert endpoint.models == (ServedModel("chat-m"),)
    assert endpoint.name == "llm/vllm-0"
    assert endpoint.labels == {MODEL_LABEL: "chat-m"}
    assert (translation.warnings, translation.left_out) == ((), "")


def test_identity_is_of_uid_address_and_port_so_that_a_replaced_or_moved_pod_is_new() -> None:
    same = only(translate_pod(pod())).identity
    assert only(translate_pod(pod())).identity == same
    assert only(translate_pod(pod(uid="another"))).identity != same
    assert only(translate_pod(pod(ip="10.0.0.2"))).identity != same
    assert only(translate_pod(pod(labels={MODEL_LABEL: "chat-m", PORT: "8001"}))).identity != same


@pytest.mark.parametrize(
    ("ip", "address"),
    [
        ("10.0.0.1", "10.0.0.1:8000"),
        ("fd00::1", "[fd00::1]:8000"),
        ("FD00:0:0:0:0:0:0:1", "[fd00::1]:8000"),
    ],
)
def test_address_is_written_as_envoy_does(ip: str, address: str) -> None:
    assert only(translate_pod(pod(ip=ip))).address == address


@pytest.mark.parametrize(
    ("options", "health", "detail"),
    [
        ({}, Health.READY, ""),
        ({"labels": {}}, Health.UNKNOWN, ""),  # the engine must say what it serves before it is picked
        ({"ready": False}, Health.NOT_READY, "the pod is not ready"),
        ({"ready": None}, Health.NOT_READY, "the pod is not ready"),
        ({"ip": None, "ready": False}, Health.NOT_READY, "the pod has no address yet"),
        ({"deletionTimestamp": "2026-01-01T00:00:09Z"}, Health.DRAINING, "the pod is being deleted"),
    ],
    ids=["ready", "no-model", "not-ready", "no-condition", "no-address", "deleting"],
)
def test_state_of_a_pod_decides_whether_it_may_be_picked(options: Any, health: Health, detail: str) -> None:
    endpoint = only(translate_pod(pod(**options)))
    assert (endpoint.health, endpoint.detail) == (health, detail)


def test_pod_without_an_address_keeps_its_model_known_and_has_no_address() -> None:
    endpoint = only(translate_pod(pod(ip=None, ready=False)))
    assert (endpoint.address, endpoint.models) == ("", (ServedModel("chat-m"),))


@pytest.mark.parametrize(
    ("labels", "phase", "why"),
    [
        ({"ray.io/node-type": "worker"}, "Running", "Ray worker"),
        ({"stormservice.orchestration.aibrix.ai/pod-group-index": "1"}, "Running", "pod 0 serves"),
        ({}, "Failed", "has ended"),
        ({}, "Succeeded", "has ended"),
    ],
    ids=["ray-worker", "pod-group", "failed", "succeeded"],
)
def test_pod_that_shall_not_serve_is_left_out_without_a_remark(labels: dict[str, str], phase: str, why: str) -> None:
    translation = translate_pod(pod(labels={MODEL_LABEL: "m", **labels}, phase=phase))
    assert translation.endpoints == ()
    assert translation.warnings == ()
    assert why in translation.left_out


@pytest.mark.parametrize(
    "labels",
    [{"ray.io/node-type": "head"}, {"stormservice.orchestration.aibrix.ai/pod-group-index": "0"}],
    ids=["ray-head", "first-of-group"],
)
def test_pod_that_serves_for_others_is_an_endpoint(labels: dict[str, str]) -> None:
    assert only(translate_pod(pod(labels={MODEL_LABEL: "m", **labels}))).health is Health.READY


@pytest.mark.parametrize(
    "text", ["", "0", "65536", "-1", "8000.0", "8_000", "http", "\uff18000", "99999999999999999999"]
)
def test_pod_with_a_broken_port_is_left_out_with_a_remark(text: str) -> None:
    translation = translate_pod(pod(labels={MODEL_LABEL: "m", PORT: text}))
    assert translation.endpoints == ()
    assert [PORT in warning and "left out" in warning for warning in translation.warnings] == [True]


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a\nb", "sch\u00f6n", "x" * 257],
    ids=["empty", "space", "line-break", "not-ascii", "too-long"],
)
def test_pod_with_an_odd_model_name_is_left_out_with_a_remark(name: str) -> None:
    translation = translate_pod(pod(labels={}, annotations={MODEL_LABEL: name}))
    assert translation.endpoints == ()
    assert [MODEL_LABEL in warning and len(warning) < 300 for warning in translation.warnings] == [True]


def test_model_name_of_the_label_goes_before_that_of_the_annotation() -> None:
    both = pod(annotations={MODEL_LABEL: "org/other"})
    assert only(translate_pod(both)).models == (ServedModel("chat-m"),)
    annotated = pod(labels={}, annotations={MODEL_LABEL: "org/Model-7B"})
    assert only(translate_pod(annotated)).models == (ServedModel("org/Model-7B"),)


@pytest.mark.parametrize(
    ("labels", "annotations", "engine", "warnings"),
    [
        ({ENGINE: "sglang"}, {}, "sglang", 0),
        ({}, {ENGINE: "vllm-omni"}, "vllm-omni", 0),
        ({ENGINE: "xllm"}, {ENGINE: "sglang"}, "xllm", 0),
        ({ENGINE: "own"}, {}, "vllm", 1),
    ],
    ids=["label", "annotation", "both", "unknown"],
)
def test_engine_is_read_from_the_label_then_the_annotation(
    labels: dict[str, str], annotations: dict[str, str], engine: str, warnings: int
) -> None:
    translation = translate_pod(pod(labels={MODEL_LABEL: "m", **labels}, annotations=annotations))
    assert only(translation).engine == engine
    assert len(translation.warnings) == warnings


def test_data_parallel_ranks_are_endpoints_on_ports_one_after_another() -> None:
    several = pod(labels={MODEL_LABEL: "m", PORT: "9000"}, env={"data-parallel-size": "3", "OTHER": "x"})
    found = translate_pod(several).endpoints
    assert [endpoint.address for endpoint in found] == ["10.0.0.1:9000", "10.0.0.1:9001", "10.0.0.1:9002"]
    assert len({endpoint.identity for endpoint in found}) == 3


@pytest.mark.parametrize(("port", "size"), [("8000", "0"), ("8000", "65"), ("8000", "two"), ("65535", "2")], ids=str)
def test_pod_with_ranks_that_cannot_be_is_left_out_with_a_remark(port: str, size: str) -> None:
    translation = translate_pod(pod(labels={MODEL_LABEL: "m", PORT: port}, env={"data-parallel-size": size}))
    assert translation.endpoints == ()
    assert len(translation.warnings) == 1


def test_config_annotation_is_kept_as_it_stands() -> None:
    text = '{"defaultProfile": "a", "profiles": {"a": {"routingStrategy": "random"}}}'
    found = only(translate_pod(pod(annotations={CONFIG: text, "other": "x"})))
    assert found.annotations == {CONFIG: text}
    assert found.config == parse_config(text)


def test_config_with_members_that_nothing_reads_counts_and_is_remarked_on() -> None:
    translation = translate_pod(pod(annotations={CONFIG: '{"profiles": {"a": {"requestsPerSecond": 5}}}'}))
    assert only(translation).config is not None
    assert translation.warnings == (f"{CONFIG}: without effect here: 'profiles.a.requestsPerSecond'",)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"x"', "[" * 100_000, "{" + " " * 70_000 + "}"],
    ids=["empty", "cut", "list", "null", "string", "deep", "large"],
)  # fmt: skip
def test_pod_with_an_invalid_config_is_served_without_it_and_with_a_remark(text: str) -> None:
    translation = translate_pod(pod(annotations={CONFIG: text}))
    assert (only(translation).annotations, only(translation).config) == ({}, None)
    assert [CONFIG in warning and "without profiles" in warning for warning in translation.warnings] == [True]


def test_broken_metric_port_is_only_a_remark() -> None:
    translation = translate_pod(pod(labels={MODEL_LABEL: "m", "model.aibrix.ai/metric-port": "x"}))
    assert only(translation).health is Health.READY
    assert len(translation.warnings) == 1


@pytest.mark.parametrize("ip", ["10.0.0", "0.0.0.0", "::", "224.0.0.1", "fe80::1%eth0", "localhost"])
def test_pod_with_an_odd_address_is_left_out_with_a_remark(ip: str) -> None:
    translation = translate_pod(pod(ip=ip))
    assert (translation.endpoints, len(translation.warnings)) == ((), 1)


def test_ports_of_a_pool_take_the_place_of_the_labels() -> None:
    found = translate_pod(pod(labels={PORT: "broken"}), (8001, 8002)).endpoints
    assert [endpoint.address for endpoint in found] == ["10.0.0.1:8001", "10.0.0.1:8002"]


def test_slimmed_pod_translates_to_the_same() -> None:
    full = pod(
        labels={MODEL_LABEL: "m", PORT: "9000"},
        annotations={CONFIG: "{}", "kubectl.kubernetes.io/last-applied-configuration": "x" * 10_000},
        env={"data-parallel-size": "2", "HF_TOKEN": "secret"},
    )
    slim = slimmed(full)
    assert isinstance(slim, Pod)
    assert translate_pod(slim) == translate_pod(full)
    assert len(msgspec.json.encode(slim)) < 800


def test_runtime_sidecar_of_aibrix_is_found_by_its_container() -> None:
    tree = a_pod()
    tree["spec"]["containers"].append({"name": "aibrix-runtime", "image": "aibrix/runtime"})
    full: Pod = msgspec.json.decode(json.dumps(tree), type=Pod)
    slim = slimmed(full)
    assert isinstance(slim, Pod)
    assert only(translate_pod(full)).runtime == only(translate_pod(slim)).runtime == "10.0.0.1:8080"
    assert only(translate_pod(pod())).runtime == ""


@pytest.mark.parametrize(
    ("words", "known"),
    [
        (["--model", "m", "--max-num-seqs", "64"], 64),
        (["--max_num_seqs=128"], 128),
        (["-c", "exec vllm serve m --max-num-seqs 32 --port 8000"], 32),
        (["--max-num-seqs", "8", "--max-num-seqs", "16"], 16),
        (["--max-num-seqs", "0"], None),
        (["--max-num-seqs", "many"], None),
        (["--max-num-seqs", "1.5"], None),
        (["--max-num-seqs", "99999999"], None),
        (["--max-num-seqs"], None),
        (["--max-num-batched-tokens", "64"], None),
    ],
)
@pytest.mark.parametrize("where", ["command", "args"])
def test_requests_that_an_engine_runs_at_once_are_read_off_its_command_line(
    where: str, words: list[str], known: int | None
) -> None:
    tree = a_pod()
    tree["spec"]["containers"].append({"name": "vllm", where: words})
    full: Pod = msgspec.json.decode(json.dumps(tree), type=Pod)
    assert only(translate_pod(full)).max_sequences == known
    assert translate_pod(slimmed(full)) == translate_pod(full)  # type: ignore[arg-type]


def test_managed_fields_are_not_even_parsed_into_the_object() -> None:
    assert b"managed" not in msgspec.json.encode(pod())


def test_every_label_of_the_table_is_read() -> None:
    marks = {
        MODEL_LABEL: "bad name", PORT: "x", "model.aibrix.ai/metric-port": "x", ENGINE: "x",
        "adapter.model.aibrix.ai/enabled": "x", "ray.io/node-type": "worker",
        "stormservice.orchestration.aibrix.ai/pod-group-index": "1",
        "role-name": "prefill", "roleset-name": "set-1", "llm-d.ai/role": "prefill",
    }  # fmt: skip
    assert set(LABELS) == {*marks, CONFIG, "data-parallel-size", "--max-num-seqs"}


@given(
    labels=st.dictionaries(st.sampled_from(sorted(LABELS)), st.text(max_size=12)),
    annotations=st.dictionaries(st.sampled_from(sorted(LABELS)), st.text(max_size=12)),
    env=st.dictionaries(st.just("data-parallel-size"), st.text(max_size=12)),
    ip=st.none() | st.text(max_size=20) | st.ip_addresses().map(str),
)
def test_whatever_a_pod_says_there_is_an_endpoint_or_a_reason(
    labels: dict[str, str], annotations: dict[str, str], env: dict[str, str], ip: str | None
) -> None:
    translation = translate_pod(pod(ip=ip, labels=labels, annotations=annotations, env=env))
    assert translation.endpoints or translation.warnings or translation.left_out
