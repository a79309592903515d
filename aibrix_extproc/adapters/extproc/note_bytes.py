"""The message that leaves notes in Envoy, put together byte by byte.

There is one for each exchange of which usage is counted, and every one differs. The protobuf library takes several
times as long, because it makes an object for each note.
"""

from functools import lru_cache
from typing import Final

from google.protobuf.struct_pb2 import Struct, Value

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import ProcessingResponse
from aibrix_extproc.adapters.extproc.large_message import field_head
from aibrix_extproc.core.openai.contract.headers import NOTES_NAMESPACE

Notes = tuple[tuple[str, str | bool], ...]

_KEY, _VALUE = 1, 2  # of an entry of a map: protobuf's own numbers
_REMEMBERED: Final = 1024
_FIELDS: Final = Struct.DESCRIPTOR.fields_by_name["fields"].number
_TEXT: Final = Value.DESCRIPTOR.fields_by_name["string_value"].number
_STRUCT: Final = Value.DESCRIPTOR.fields_by_name["struct_value"].number
_METADATA: Final = ProcessingResponse.DESCRIPTOR.fields_by_name["dynamic_metadata"].number


def note_bytes(notes: Notes) -> bytes:
    """A serialised ProcessingResponse with nothing but these notes.

    The first note is the id of the exchange and the last one its seal. Those between repeat, so they are remembered.
    """
    first, between, last = _note(*notes[0]), _repeating(notes[1:-1]), _note(*notes[-1])
    return b"".join((_around(len(first) + len(between) + len(last)), first, between, last))


def _note(name: str, value: str | bool) -> bytes:
    if isinstance(value, str):
        text = value.encode()
        return _before_text(name, len(text)) + text
    return _entry_head(_FIELDS, name, len(_flag(value))) + _flag(value)


def _flag(value: bool) -> bytes:
    return Value(bool_value=value).SerializeToString()


@lru_cache(_REMEMBERED)
def _repeating(notes: Notes) -> bytes:
    return b"".join([_note(name, value) for name, value in notes])


@lru_cache(_REMEMBERED)
def _before_text(name: str, length: int) -> bytes:
    """A note up to its text."""
    head = field_head(_TEXT, length)
    return _entry_head(_FIELDS, name, len(head) + length) + head


@lru_cache(_REMEMBERED)
def _around(length: int) -> bytes:
    """What stands before notes of this length."""
    struct = field_head(_STRUCT, length)
    entry = _entry_head(_FIELDS, NOTES_NAMESPACE, len(struct) + length) + struct
    return field_head(_METADATA, len(entry) + length) + entry


def _entry_head(number: int, name: str, length: int) -> bytes:
    """An entry of a map up to its value, which has this length."""
    text = name.encode()
    inside = field_head(_KEY, len(text)) + text + field_head(_VALUE, length)
    return field_head(number, len(inside) + length) + inside
