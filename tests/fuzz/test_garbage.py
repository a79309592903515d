"""Garbage from whoever reaches the port is a mistake of theirs: no internal error, no exception, whatever it says."""

import logging
import math
import random
import time

import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest

from aibrix_extproc.adapters.accesslog._generated.als_pb2 import StreamAccessLogsMessage
from aibrix_extproc.adapters.accesslog.receive import AccessLogReceiver
from aibrix_extproc.adapters.accesslog.report import REPORT_KEY, REPORT_NAMESPACE
from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from aibrix_extproc.adapters.extproc.decoding import ATTRIBUTES, LB_NAMESPACE, SUBSET_NAMESPACE
from aibrix_extproc.adapters.extproc.health import Health
from aibrix_extproc.adapters.extproc.session import Session
from aibrix_extproc.adapters.telemetry import logs
from aibrix_extproc.app.parts.seals import NoteSeals
from aibrix_extproc.core.access.seals import SealedPlacement
from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.openai.contract.headers import (
    DESTINATION,
    DESTINATION_SERVED,
    DESTINATION_SUBSET,
    EXTPROC_NAMESPACE,
    READ_HEADERS,
    SEALED,
)
from tests.fuzz.garbage import Garbage
from tests.fuzz.rig import Gateway, watchdog

pytestmark = pytest.mark.slow
ID = "01234567-89ab-cdef-0123-456789abcdef"
WORDS = (*sorted(READ_HEADERS), *(":status",) * 20, *("content-type",) * 5, "x-other", DESTINATION_SERVED)
KEYS = (
    *(ATTRIBUTES,) * 4, "response.flags", "response.code_details", "upstream.address", "request.id", "request.protocol",
    *(LB_NAMESPACE, SUBSET_NAMESPACE, DESTINATION, DESTINATION_SERVED, DESTINATION_SUBSET, EXTPROC_NAMESPACE),
)  # fmt: skip
ATTRIBUTE_NAMES = ("response.flags", "response.code_details", "upstream.address", "request.id", "request.protocol")
LOG_KEYS = (
    *(EXTPROC_NAMESPACE, EXTPROC_NAMESPACE, REPORT_NAMESPACE, REPORT_KEY),
    *("request_id", "operation", "model", "caller", "stream", SEALED, SEALED),
)
HEAD = {
    ":method": "POST", ":path": "/v1/chat/completions", ":authority": "x", "content-type": "application/json",
    "authorization": "Bearer good", "x-request-id": ID,
}  # fmt: skip
BODY = b'{"model": "chat-m", "messages": [{"role": "user", "content": "hi"}]}'


def good_start() -> list[ProcessingRequest]:
    head = ProcessingRequest()
    for name, value in HEAD.items():
        head.request_headers.headers.headers.add(key=name, raw_value=value.encode())
    body = ProcessingRequest()
    body.request_body.body, body.request_body.end_of_stream = BODY, True
    return [head, body]


@pytest.mark.parametrize("duplex", [False, True], ids=["buffered", "duplex"])
@pytest.mark.parametrize("seed", range(4))
def test_garbage_in_an_exchange_is_no_internal_error(seed: int, duplex: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    rng, gateway, answered = random.Random(seed), Gateway(), 0
    garbage = Garbage(rng, WORDS, KEYS)
    with watchdog():
        for _ in range(200):
            policy = ExchangePolicy(max_body_bytes=150_000, metering=rng.random() < 0.5, is_picker=rng.random() < 0.3)
            session = Session(gateway.dispatcher, Exchange(policy), time.perf_counter, lambda: ID, assume_duplex=duplex)
            messages = good_start() if rng.random() < 0.6 else []
            for _ in range(rng.randrange(1, 5)):
                message = ProcessingRequest()
                garbage.fill(message)
                for name in ATTRIBUTE_NAMES if rng.random() < 0.5 else ():
                    garbage.fill(message.attributes[ATTRIBUTES].fields[name], depth=5)
                messages.append(message)
            for message in messages:
                heard = ProcessingRequest.FromString(message.SerializeToString())
                for reply in session.receive(heard):
                    if isinstance(reply, bytes):  # and no large body in pieces
                        ProcessingResponse.FromString(reply)
                    answered += 1
            session.expire()
            session.close(events.Cause.HALF_CLOSED)
    assert (gateway.bugs, [record.getMessage() for record in caplog.records]) == (0, [])
    assert answered > 200
    assert gateway.load.total() == 0


@pytest.mark.parametrize("seed", range(2))
def test_garbage_in_the_access_log_is_counted_and_can_be_shown(seed: int) -> None:
    rng, gateway, taken = random.Random(seed), Gateway(), list[object]()
    garbage = Garbage(rng, LOG_KEYS, LOG_KEYS)
    metrics = gateway.metrics
    seals = NoteSeals(None, time.time, lambda _: None)

    def admit(text: bytes) -> SealedPlacement:
        seals.admit(text)  # what it makes of forged ones must not raise either
        taken.append(text)
        return SealedPlacement(0, 0, 0, "r", "chat_completion", "m", "me", "")

    receiver = AccessLogReceiver(metrics.charged, metrics.malformed_record, logs.log_record, admit=admit)
    with watchdog():
        for _ in range(400):
            message = StreamAccessLogsMessage()
            garbage.fill(message)
            for entry in message.http_logs.log_entry:
                garbage.fill(entry.common_properties.metadata, depth=1)
                entry.common_properties.metadata.filter_metadata[EXTPROC_NAMESPACE].fields[
                    "stream"
                ].string_value = "data_done"
            receiver.take(message.SerializeToString())
            receiver.take(rng.randbytes(rng.randrange(50)))
    assert len(taken) > 120
    assert metrics.exposition()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 1e300, 2.0**63])
def test_flags_that_are_none_are_no_internal_error(value: float) -> None:
    gateway = Gateway()
    session = Session(gateway.dispatcher, Exchange(ExchangePolicy(max_body_bytes=1_000)), time.perf_counter, lambda: ID)
    for message in good_start():
        session.receive(message)
    head = ProcessingRequest()
    head.response_headers.headers.headers.add(key=":status", raw_value=b"503")
    head.attributes[ATTRIBUTES].fields["response.flags"].number_value = value
    assert len(session.receive(head)) == 1
    assert gateway.bugs == 0
    session.close(events.Cause.HALF_CLOSED)


def test_garbage_to_the_health_service_is_an_unknown_name() -> None:
    health, garbage = Health(), Garbage(random.Random(1), WORDS, KEYS)
    for _ in range(200):
        message = HealthCheckRequest()
        garbage.fill(message)
        assert health.status(message.service) in (None, 1, 2)


@pytest.mark.parametrize("value", ["²", "٣", "9" * 5_000, "-1", "2e2", "nan", "", "999999999", "099", "600", "1"])
def test_status_that_is_none_is_no_internal_error(value: str) -> None:
    gateway = Gateway()
    session = Session(gateway.dispatcher, Exchange(ExchangePolicy(max_body_bytes=1_000)), time.perf_counter, lambda: ID)
    for message in good_start():
        session.receive(message)
    head = ProcessingRequest()
    head.response_headers.headers.headers.add(key=":status", value=value)
    assert len(session.receive(head)) == 1
    assert gateway.bugs == 0
    session.close(events.Cause.HALF_CLOSED)
