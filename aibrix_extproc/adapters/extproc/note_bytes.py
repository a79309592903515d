"""The message that leaves notes in Envoy, put together byte by byte.

There is one for each exchange of which usage is counted, and every one differs. The protobuf library takes several
times as long, because it makes an object for each note.
"""

from functools import lru_cache
from typing import Final

from google.protobuf.struct_pb2 import Struct, Value

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import ProcessingResponse
from aibrix_extproc.adapters.extproc.large_message import field_head
from aibrix_extproc.core.exchange.outputs import Notes
from aibrix_extproc.core.openai.contract.headers import NOTES_NAMESPACE, SEALED

_KEY, _VALUE = 1, 2  # of an entry of a map: protobuf's own numbers
_REMEMBERED: Final = 1024
_FIELDS: Final = Struct.DESCRIPTOR.fields_by_name["fields"].number
_TEXT: Final = Value.DESCRIPTOR.fields_by_name["string_value"].number
_STRUCT: Final = Value.DESCRIPTOR.fields_by_name["struct_value"].number
_METADATA: Final = ProcessingResponse.DESCRIPTOR.fields_by_name["dynamic_metadata"].number


def note_bytes(notes: Notes) -> bytes:
    """A serialised ProcessingResponse with nothing but these notes.

    What the stream filter needs stands beside the sealed text, whose form is none of its business.
    """
    return _before_sealed(notes.stream, notes.hide_usage, len(notes.sealed)) + notes.sealed


@lru_cache(_REMEMBERED)
def _before_sealed(stream: str, hide_usage: bool, length: int) -> bytes:
    """All of the message but a sealed text of this length, which ends it."""
    plain = _note("stream", Value(string_value=stream)) + _note("hide_usage", Value(bool_value=hide_usage))
    head = field_head(_TEXT, length)
    sealed = _entry_head(_FIELDS, SEALED, len(head) + length) + head
    around = len(plain) + len(sealed) + length
    struct = field_head(_STRUCT, around)
    entry = _entry_head(_FIELDS, NOTES_NAMESPACE, len(struct) + around) + struct
    return b"".join((field_head(_METADATA, len(entry) + around), entry, plain, sealed))


def _note(name: str, value: Value) -> bytes:
    content = value.SerializeToString()
    return _entry_head(_FIELDS, name, len(content)) + content


def _entry_head(number: int, name: str, length: int) -> bytes:
    """An entry of a map up to its value, which has this length."""
    text = name.encode()
    inside = field_head(_KEY, len(text)) + text + field_head(_VALUE, length)
    return field_head(number, len(inside) + length) + inside
