"""Protobuf messages filled with odd values: well formed on the wire, and nothing that a sane peer would say."""

import math
import random
from collections.abc import Sequence
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_NUMBERS: Final = (math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e308, -1.0, 2.0**63, 2.0**53 + 1, 0.5, 200.0)
_TEXTS: Final = (
    "", " ", "\0", "²", "٣", "1e9", "-1", "9" * 5_000, "\u2028", "日本", "\U0001f600", "\ud7ff", "a,b;c=d",
    "x" * 300, "200", "500", "099", "600", "100", "2OO", "nan", "inf", "true", "null", "{}", "[::1]:80",
    "10.0.0.1:8000", "\r\nx: y", "application/json", "text/event-stream", "POST", "GET", "/v1/chat/completions",
    "/v1/responses/resp_x", "Bearer good", "gzip", "1", "0", "via_upstream", "response_timeout",
    "upstream_reset_before_response_started{connection_failure}",
)  # fmt: skip
_INTEGERS: Final = {
    FieldDescriptor.CPPTYPE_INT32: (0, -1, 1, 7, 2**31 - 1, -(2**31)),
    FieldDescriptor.CPPTYPE_INT64: (0, -1, 1, 2**53 + 1, 2**63 - 1, -(2**63)),
    FieldDescriptor.CPPTYPE_UINT32: (0, 1, 99, 200, 503, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 1, 2**53 + 1, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (0, 1, 4, 5, 99, -1),
}
_MOST_DEPTH: Final = 7


class Garbage:
    """Makes them. `words` are names that the reader knows, of headers and in texts; `keys` are those of maps."""

    def __init__(self, rng: random.Random, words: Sequence[str], keys: Sequence[str]) -> None:
        self._rng = rng
        self._words = words
        self._keys = keys

    def fill(self, message: Any, *, depth: int = 0) -> None:
        """Set some fields, those of inner messages too."""
        rng = self._rng
        # Of a oneof the last one that is set stays, so one of them is drawn.
        drawn = {one.name: rng.choice(one.fields).name for one in message.DESCRIPTOR.oneofs}
        for field in message.DESCRIPTOR.fields:
            alternatives = field.containing_oneof
            if rng.random() < 0.2 or (alternatives is not None and drawn[alternatives.name] != field.name):
                continue
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                self._fill_map(getattr(message, field.name), field, depth)
            elif field.is_repeated:
                self._fill_list(getattr(message, field.name), field, depth)
            elif field.message_type is not None:
                inner = getattr(message, field.name)
                inner.SetInParent()
                if depth < _MOST_DEPTH:
                    self.fill(inner, depth=depth + 1)
            else:
                setattr(message, field.name, self._value(field))

    def _fill_map(self, found: Any, field: FieldDescriptor, depth: int) -> None:
        assert field.message_type is not None
        value = field.message_type.fields_by_name["value"]
        for _ in range(self._rng.randrange(5)):
            key = self._rng.choice(self._keys)
            if value.message_type is None:
                found[key] = self._value(value)
            elif depth < _MOST_DEPTH:
                self.fill(found[key], depth=depth + 1)

    def _fill_list(self, found: Any, field: FieldDescriptor, depth: int) -> None:
        for _ in range(self._rng.randrange(6)):
            if field.message_type is None:
                found.append(self._value(field))
            elif depth < _MOST_DEPTH:
                self._fill_named(found.add(), depth + 1)

    def _fill_named(self, one: Message, depth: int) -> None:
        self.fill(one, depth=depth)
        if "key" in one.DESCRIPTOR.fields_by_name:
            setattr(one, "key", self._rng.choice(self._words))  # noqa: B010 (no message type here has it for sure)

    def _value(self, field: FieldDescriptor) -> Any:
        rng, kind = self._rng, field.cpp_type
        match kind:
            case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
                return rng.choice((rng.choice(_TEXTS).encode(), rng.randbytes(rng.randrange(40)), b"[" * 10_000))
            case FieldDescriptor.CPPTYPE_STRING:
                return rng.choice(_TEXTS if rng.random() < 0.8 else self._words)
            case FieldDescriptor.CPPTYPE_BOOL:
                return rng.random() < 0.5
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return rng.choice(_NUMBERS)
        return rng.choice(_INTEGERS[kind])
