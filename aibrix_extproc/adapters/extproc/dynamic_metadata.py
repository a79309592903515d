"""The message that leaves dynamic metadata in Envoy, put together byte by byte.

There is one for each exchange of which usage is counted, and every one differs. The protobuf library takes several
times as long, because it makes an object for each field.
"""

from functools import lru_cache
from typing import Final

from google.protobuf.struct_pb2 import Struct, Value

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import ProcessingResponse
from aibrix_extproc.adapters.extproc.large_message import field_head
from aibrix_extproc.core.exchange.outputs import DynamicMetadata
from aibrix_extproc.core.openai.contract.headers import EXTPROC_NAMESPACE, PLACED_REQUEST_ID, SEALED

_KEY, _VALUE = 1, 2  # of an entry of a map: protobuf's own numbers
_REMEMBERED: Final = 1024
_FIELDS: Final = Struct.DESCRIPTOR.fields_by_name["fields"].number
_TEXT: Final = Value.DESCRIPTOR.fields_by_name["string_value"].number
_STRUCT: Final = Value.DESCRIPTOR.fields_by_name["struct_value"].number
_METADATA: Final = ProcessingResponse.DESCRIPTOR.fields_by_name["dynamic_metadata"].number


def dynamic_metadata_bytes(metadata: DynamicMetadata) -> bytes:
    """A serialised ProcessingResponse with nothing but this metadata.

    What the stream filter needs stands beside the sealed text, whose form is none of its business, and so does the id,
    by which Envoy's access log filter knows an exchange that was placed.
    """
    request_id, sealed = metadata.request_id.encode(), metadata.sealed
    before_id, before_sealed = _around(metadata.stream, metadata.hide_usage, len(request_id), len(sealed))
    return b"".join((before_id, request_id, before_sealed, sealed))


@lru_cache(_REMEMBERED)
def _around(stream: str, hide_usage: bool, id_length: int, length: int) -> tuple[bytes, bytes]:
    """All of the message but the id and the sealed text, which have these lengths."""
    plain = _field("stream", Value(string_value=stream)) + _field("hide_usage", Value(bool_value=hide_usage))
    plain += _before_text(PLACED_REQUEST_ID, id_length)
    sealed = _before_text(SEALED, length)
    around = len(plain) + id_length + len(sealed) + length
    struct = field_head(_STRUCT, around)
    entry = _entry_head(_FIELDS, EXTPROC_NAMESPACE, len(struct) + around) + struct
    return field_head(_METADATA, len(entry) + around) + entry + plain, sealed


def _before_text(name: str, length: int) -> bytes:
    """A field up to its text."""
    head = field_head(_TEXT, length)
    return _entry_head(_FIELDS, name, len(head) + length) + head


def _field(name: str, value: Value) -> bytes:
    content = value.SerializeToString()
    return _entry_head(_FIELDS, name, len(content)) + content


def _entry_head(number: int, name: str, length: int) -> bytes:
    """An entry of a map up to its value, which has this length."""
    text = name.encode()
    inside = field_head(_KEY, len(text)) + text + field_head(_VALUE, length)
    return field_head(number, len(inside) + length) + inside
