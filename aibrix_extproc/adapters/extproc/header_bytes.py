"""Encodes a message that only changes headers without the protobuf library. Every answer of an engine gets one.

Names and lengths repeat, so everything around a value is remembered. The library makes two objects for each header.
"""

from functools import lru_cache
from typing import Final

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import (
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    HeaderValue,
    HeaderValueOption,
)
from aibrix_extproc.adapters.extproc.large_message import field_head
from aibrix_extproc.core.exchange.outputs import Headers

_REMEMBERED: Final = 1024
_SET: Final = HeaderMutation.DESCRIPTOR.fields_by_name["set_headers"].number
_REMOVE: Final = HeaderMutation.DESCRIPTOR.fields_by_name["remove_headers"].number
_HEADER: Final = HeaderValueOption.DESCRIPTOR.fields_by_name["header"].number
_KEY: Final = HeaderValue.DESCRIPTOR.fields_by_name["key"].number
_VALUE: Final = HeaderValue.DESCRIPTOR.fields_by_name["raw_value"].number
_MUTATION: Final = CommonResponse.DESCRIPTOR.fields_by_name["header_mutation"].number
_COMMON: Final = HeadersResponse.DESCRIPTOR.fields_by_name["response"].number
_OVERWRITES: Final = HeaderValueOption(
    append_action=HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
).SerializeToString()


def raw_value(value: str) -> bytes:
    """The bytes of a header's value; the inverse of how values are decoded."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode("utf-8", "replace")


def header_bytes(message: int, given: Headers, removed: tuple[str, ...]) -> bytes:
    """A serialised ProcessingResponse that only sets and removes headers; `message` is the number of its field."""
    pieces: list[bytes] = []
    for name, value in given:
        raw = raw_value(value)
        pieces += (_before_value(name, len(raw)), raw)
    if removed:
        pieces.append(_removal(removed))
    changes = b"".join(pieces)
    return _around(message, len(changes)) + changes


@lru_cache(_REMEMBERED)
def _before_value(name: str, length: int) -> bytes:
    key = name.encode()
    inside = field_head(_KEY, len(key)) + key + field_head(_VALUE, length)
    option = _OVERWRITES + field_head(_HEADER, len(inside) + length) + inside
    return field_head(_SET, len(option) + length) + option


@lru_cache(_REMEMBERED)
def _removal(names: tuple[str, ...]) -> bytes:
    encoded = [name.encode() for name in names]
    return b"".join([field_head(_REMOVE, len(name)) + name for name in encoded])


@lru_cache(_REMEMBERED)
def _around(message: int, length: int) -> bytes:
    """The tags and lengths that stand before changes of this length."""
    head = b""
    for number in (_MUTATION, _COMMON, message):
        head = field_head(number, length + len(head)) + head
    return head
