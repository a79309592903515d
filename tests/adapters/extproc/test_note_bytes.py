"""Notes put together byte by byte are what the protobuf library would write."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.adapters.extproc import decoding, encoding
from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import ProcessingResponse
from aibrix_extproc.adapters.extproc.note_bytes import note_bytes
from aibrix_extproc.core.exchange.outputs import Continue, Notes, Phase
from aibrix_extproc.core.openai.contract.headers import NOTES_NAMESPACE, SEALED

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.integers(100, 40_000).map("ü".__mul__)


def some(stream: str, hide_usage: bool, sealed: str) -> Notes:
    return Notes("r", "chat_completion", "m", "me", stream, hide_usage, sealed.encode())


def left(notes: Notes) -> ProcessingResponse:
    """What the library makes of them."""
    response = ProcessingResponse()
    fields = response.dynamic_metadata.fields[NOTES_NAMESPACE].struct_value.fields
    fields["stream"].string_value = notes.stream
    fields["hide_usage"].bool_value = notes.hide_usage
    fields[SEALED].string_value = notes.sealed.decode()
    return response


@given(texts, st.booleans(), texts)
def test_library_reads_the_same_notes(stream: str, hide_usage: bool, sealed: str) -> None:
    notes = some(stream, hide_usage, sealed)
    assert ProcessingResponse.FromString(note_bytes(notes)) == left(notes)


def test_notes_stand_beside_whatever_else_a_placement_says() -> None:
    notes = some("data_done", hide_usage=True, sealed="x" * 200)
    says: tuple[dict[str, Any], ...] = (
        {},
        {"body": b"{}"},
        {"set_headers": (("x-long", "x" * 600),)},
        {"skip_body": True},
    )
    for said in says:
        reply = Continue(Phase.REQUEST_BODY, destination="10.0.0.1:8000", notes=notes, **said)
        read = ProcessingResponse.FromString(encoding.encode(reply))
        assert read.request_body.response.clear_route_cache
        assert set(read.dynamic_metadata.fields) == {decoding.LB_NAMESPACE, NOTES_NAMESPACE}
        assert read.dynamic_metadata.fields[NOTES_NAMESPACE] == left(notes).dynamic_metadata.fields[NOTES_NAMESPACE]
