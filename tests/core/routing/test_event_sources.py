"""Where an engine publishes its cache events, by what it says, and what is not believed."""

import json

import pytest

from aibrix_extproc.core.routing.prefix.sources import EventSource, read_source

# As vLLM 0.33.0 answers.
RANK = {
    "enable_kv_cache_events": True, "publisher": "zmq", "endpoint": "tcp://*:5557", "replay_endpoint": "tcp://*:5558",
    "buffer_steps": 10000, "hwm": 100000, "max_queue_size": 100000, "topic": "kv@pod@model",
}  # fmt: skip


@pytest.mark.parametrize(
    ("rank", "source"),
    [
        (RANK, EventSource("tcp://10.0.0.7:5557", "tcp://10.0.0.7:5558")),
        ({**RANK, "replay_endpoint": None}, EventSource("tcp://10.0.0.7:5557", None)),
        ({**RANK, "endpoint": "tcp://192.168.0.1:22"}, EventSource("tcp://10.0.0.7:22", "tcp://10.0.0.7:5558")),
        ({**RANK, "enable_kv_cache_events": False}, None),
        ({**RANK, "publisher": "null"}, None),
        ({**RANK, "endpoint": "ipc:///tmp/events"}, None),
        ({**RANK, "endpoint": "tcp://*:0"}, None),
        ({**RANK, "endpoint": "tcp://*:99999"}, None),
        ({**RANK, "endpoint": 5}, None),
        ({}, None),
    ],
    ids=["both", "no-replay", "other-host", "off", "no-publisher", "ipc", "port-0", "port-99999", "number", "empty"],
)
def test_sockets_are_on_the_engines_own_host(rank: object, source: EventSource | None) -> None:
    assert read_source(json.dumps({"0": rank}).encode(), "10.0.0.7") == source


def test_ranks_behind_one_port_are_not_followed() -> None:
    assert read_source(json.dumps({"0": RANK, "1": RANK}).encode(), "10.0.0.7") is None


@pytest.mark.parametrize("answer", [b"", b"[]", b"\xff", b"{}", b'{"0":1}', b"[" * 10_000])
def test_no_answer_raises(answer: bytes) -> None:
    assert read_source(answer, "10.0.0.7") is None


def test_an_ipv6_host_keeps_its_brackets() -> None:
    assert read_source(json.dumps({"0": RANK}).encode(), "[fd00::1]") == EventSource(
        "tcp://[fd00::1]:5557", "tcp://[fd00::1]:5558"
    )
