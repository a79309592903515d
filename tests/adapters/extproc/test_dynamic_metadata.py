"""Dynamic metadata put together byte by byte are what the protobuf library would write."""

import json
import re
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.adapters.envoyproxy.configure import configuration
from aibrix_extproc.adapters.envoyproxy.spec import EnvoySpec, SocketAddress
from aibrix_extproc.adapters.extproc import decoding, encoding
from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import ProcessingResponse
from aibrix_extproc.adapters.extproc.dynamic_metadata import dynamic_metadata_bytes
from aibrix_extproc.core.exchange.outputs import Continue, DynamicMetadata, Phase
from aibrix_extproc.core.openai.contract.headers import EXTPROC_NAMESPACE, PLACED_REQUEST_ID, SEALED

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.integers(100, 40_000).map("ü".__mul__)


def some(stream: str, hide_usage: bool, sealed: str, request_id: str = "r") -> DynamicMetadata:
    return DynamicMetadata(request_id, "chat_completion", "m", "me", stream, hide_usage, sealed.encode())


def left(metadata: DynamicMetadata) -> ProcessingResponse:
    """What the library makes of them."""
    response = ProcessingResponse()
    fields = response.dynamic_metadata.fields[EXTPROC_NAMESPACE].struct_value.fields
    fields[PLACED_REQUEST_ID].string_value = metadata.request_id
    fields["stream"].string_value = metadata.stream
    fields["hide_usage"].bool_value = metadata.hide_usage
    fields[SEALED].string_value = metadata.sealed.decode()
    return response


@given(texts, st.booleans(), texts, texts)
def test_library_reads_the_same_notes(stream: str, hide_usage: bool, sealed: str, request_id: str) -> None:
    metadata = some(stream, hide_usage, sealed, request_id)
    assert ProcessingResponse.FromString(dynamic_metadata_bytes(metadata)) == left(metadata)


def test_notes_stand_beside_whatever_else_a_placement_says() -> None:
    metadata = some("data_done", hide_usage=True, sealed="x" * 200)
    says: tuple[dict[str, Any], ...] = (
        {},
        {"body": b"{}"},
        {"set_headers": (("x-long", "x" * 600),)},
        {"skip_body": True},
    )
    for said in says:
        reply = Continue(Phase.REQUEST_BODY, destination="10.0.0.1:8000", dynamic_metadata=metadata, **said)
        read = ProcessingResponse.FromString(encoding.encode(reply))
        assert read.request_body.response.clear_route_cache
        assert set(read.dynamic_metadata.fields) == {decoding.LB_NAMESPACE, EXTPROC_NAMESPACE}
        assert (
            read.dynamic_metadata.fields[EXTPROC_NAMESPACE] == left(metadata).dynamic_metadata.fields[EXTPROC_NAMESPACE]
        )


def test_access_log_filter_of_our_envoy_finds_what_it_looks_for() -> None:
    """It sends the entries of exchanges that left a note of this name, and no others."""
    nowhere = SocketAddress("127.0.0.1", 1)
    spec = EnvoySpec(nowhere, nowhere, (nowhere,), Path("/nowhere"), access_log_service=True)
    (name,) = re.findall(r'"filter": "aibrix.extproc", "path": \[{"key": "(\w+)"}\]', json.dumps(configuration(spec)))
    read = ProcessingResponse.FromString(dynamic_metadata_bytes(some("", hide_usage=False, sealed="x")))
    assert read.dynamic_metadata.fields[EXTPROC_NAMESPACE].struct_value.fields[name].string_value == "r"
