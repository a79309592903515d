"""Our subset of the access log's messages speaks Envoy's wire format: held against a complete copy of its types."""

import dataclasses
import datetime
from collections.abc import Iterator
from typing import Any, Final

import pytest
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.data.accesslog import v3 as data
from envoy_data_plane.envoy.service.accesslog import v3 as service
from envoy_data_plane.google import protobuf
from google.protobuf.descriptor import FieldDescriptor

from aibrix_extproc.adapters.accesslog._generated import als_pb2 as ours
from aibrix_extproc.adapters.accesslog.receive import METHOD, AccessLogReceiver
from aibrix_extproc.core.access.seals import SealedPlacement
from aibrix_extproc.core.exchange.records import Charge, ExchangeRecord, StreamEnd, Times
from aibrix_extproc.core.openai.wire.usage import Usage

pytestmark = pytest.mark.slow  # importing the complete types takes most of a second

PAIRS: Final = (
    (ours.StreamAccessLogsMessage, service.StreamAccessLogsMessage),
    (ours.StreamAccessLogsMessage.HTTPAccessLogEntries, service.StreamAccessLogsMessageHttpAccessLogEntries),
    (ours.HTTPAccessLogEntry, data.HttpAccessLogEntry),
    (ours.AccessLogCommon, data.AccessLogCommon),
    (ours.ResponseFlags, data.ResponseFlags),
    (ours.HttpRequestProperties, data.HttpRequestProperties),
    (ours.HttpResponseProperties, data.HttpResponseProperties),
    (ours.Address, core.Address),
    (ours.SocketAddress, core.SocketAddress),
    (ours.Metadata, core.Metadata),
    (ours.ChargeMessage, service.StreamAccessLogsMessage),
    (ours.ChargeMessage.Entries, service.StreamAccessLogsMessageHttpAccessLogEntries),
    (ours.ChargeEntry, data.HttpAccessLogEntry),
    (ours.ChargeCommon, data.AccessLogCommon),
    (ours.ChargeRequest, data.HttpRequestProperties),
    (ours.ChargeResponse, data.HttpResponseProperties),
    (ours.ChargeMetadata, core.Metadata),
)
TYPES: Final = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "message",  # one that nobody looks into is the same on the wire
    FieldDescriptor.TYPE_MESSAGE: "message",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
}
FLAGS_THAT_CARRY_MORE: Final = {"unauthorized_details"}


def fields() -> Iterator[Any]:
    for mine, theirs in PAIRS:
        numbers = {field.metadata["betterproto"].number: field for field in dataclasses.fields(theirs)}
        descriptor: Any = mine.DESCRIPTOR
        for field in descriptor.fields:
            yield pytest.param(field, numbers.get(field.number), id=f"{descriptor.name}.{field.name}")


@pytest.mark.parametrize(("field", "theirs"), list(fields()))
def test_field_has_the_number_name_and_type_of_envoys(field: FieldDescriptor, theirs: Any) -> None:
    assert theirs is not None
    assert theirs.name == field.name
    meta = theirs.metadata["betterproto"]
    expected = "map" if field.message_type and field.message_type.GetOptions().map_entry else TYPES[field.type]
    assert str(meta.proto_type) == expected


def test_no_flag_of_envoys_is_unknown() -> None:
    mine = {field.name for field in ours.ResponseFlags.DESCRIPTOR.fields}
    assert {field.name for field in dataclasses.fields(data.ResponseFlags)} - mine == FLAGS_THAT_CARRY_MORE


def admit(text: bytes) -> SealedPlacement | None:
    return SealedPlacement(0, 0, 0, "r", "chat_completion", "m", "me", "data_done") if text == b"x" * 300 else None


def test_envoys_entry_is_read() -> None:
    text = protobuf.Value
    notes = protobuf.Struct(fields={"stream": text(string_value="data_done"), "sealed": text(string_value="x" * 300)})
    report = protobuf.Struct(fields={"report": text(string_value="input_tokens=11 terminal=true")})
    entry = data.HttpAccessLogEntry(
        protocol_version=data.HttpAccessLogEntryHttpVersion.HTTP11,
        common_properties=data.AccessLogCommon(
            start_time=datetime.datetime(2026, 1, 2, 3, 4, 5, 250_000, tzinfo=datetime.UTC),
            duration=datetime.timedelta(milliseconds=1500),
            time_to_first_downstream_tx_byte=datetime.timedelta(milliseconds=20),
            upstream_remote_address=core.Address(
                socket_address=core.SocketAddress(address="10.0.0.1", port_value=8000)
            ),
            response_flags=data.ResponseFlags(upstream_protocol_error=True),
            metadata=core.Metadata(filter_metadata={"aibrix.extproc": notes, "aibrix.usage": report}),
            upstream_request_attempt_count=1,
            route_name="placed",
        ),
        request=data.HttpRequestProperties(path="/v1/x", request_body_bytes=96),
        response=data.HttpResponseProperties(
            response_code=200, response_body_bytes=1010, response_code_details="via_upstream"
        ),
    )
    batch = service.StreamAccessLogsMessage(
        identifier=service.StreamAccessLogsMessageIdentifier(log_name="x", node=core.Node(id="n")),
        http_logs=service.StreamAccessLogsMessageHttpAccessLogEntries(log_entry=[entry]),
    )
    charges: list[Charge] = []
    records: list[ExchangeRecord] = []
    receiver = AccessLogReceiver(
        charges.append, lambda: pytest.fail("malformed"), records.append, admit=admit, timed=True
    )
    receiver.take(bytes(batch))
    assert charges == [
        Charge(
            request_id="r", operation="chat_completion", model="m", caller="me",
            exchange_id="0000000000000000-0", status=200, bytes_in=96,
            bytes_out=1010, usage=Usage(input_tokens=11), end=StreamEnd.COMPLETE,
            times=Times(entry.common_properties.start_time.timestamp(), 0.02, 1.5),
        )
    ]  # fmt: skip
    (record,) = records
    assert (record.request_id, record.model, record.status, record.details) == ("r", "m", 200, "via_upstream")
    assert (record.bytes_in, record.bytes_out, record.attempts) == (96, 1010, 1)
    assert (record.first_byte_seconds, record.total_seconds) == (0.02, 1.5)
    assert record.wall_started_at == entry.common_properties.start_time.timestamp()
    assert (record.upstream_address, record.flags) == ("10.0.0.1:8000", ("upstream_protocol_error",))
    assert (record.usage, record.terminal) == (Usage(input_tokens=11), True)


def test_method_is_envoys() -> None:
    described = ours.DESCRIPTOR.services_by_name["AccessLogService"]
    assert f"/{described.full_name}/{described.methods[0].name}" == METHOD
