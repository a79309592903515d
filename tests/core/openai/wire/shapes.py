"""JSON bodies that are made to be dear to read: each shape in any size."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

_HEAD: Final = b'{"model":"m","stream":true,'


def _members(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: _HEAD + unit * (size // len(unit)) + b'"b":1}'


def _value(start: bytes, unit: bytes, end: bytes) -> Callable[[int], bytes]:
    return lambda size: _HEAD + b'"x":' + start + unit * (size // len(unit)) + end + b"}"


def _keys(size: int) -> bytes:
    return _HEAD + b"".join(b'"%x":1,' % number for number in range(size // 9)) + b'"b":1}'


SHAPES: Final[Mapping[str, Callable[[int], bytes]]] = MappingProxyType({
    "ordinary": lambda size: b'{"model":"m","messages":[' + b'{"role":"user","content":"Say hello, please."},' * (
        size // 47) + b"{}]}",
    "one long string": _value(b'"', b"hello world ", b'"'),
    "keys": _keys,
    "the same key": _members(b'"a":1,'),
    "empty keys": _members(b'"":1,'),
    "keys of options": lambda size: _HEAD + b'"stream_options":{' + b'"a":1,' * (size // 6) + b'"b":1}}',
    "a field again and again": _members(b'"model":"m",'),
    "messages again and again": _members(b'"messages":[1],'),
    "controls again and again": _members(b'"priority":1,'),
    "escaped keys": _members(b'"\\u0061":1,'),
    "nested arrays": _value(b"[", b"[[[[]]]],", b"1]"),
    "nested objects": _value(b"[", b'{"a":{"a":{}}},', b"1]"),
    "numbers": _value(b"[", b"0,", b"1]"),
    "escapes": _value(b'"', b"\\n", b'"'),
    "escaped surrogates": _value(b'"', b"\\ud83d\\ude00", b'"'),
    "digits": _value(b"", b"9", b""),
    "whitespace": _value(b"", b" ", b"1"),
    "whitespace in front": lambda size: b" " * size + b'{"model":"m"}',
    "a long key": lambda size: _HEAD + b'"' + b"a" * size + b'":1}',
    "a long escaped key": lambda size: _HEAD + b'"' + b"\\n" * (size // 2) + b'":1}',
    "a long model": lambda size: b'{"model":"' + b"m" * size + b'"}',
    "two-byte characters": _value(b'"', "é".encode(), b'"'),
    "four-byte characters": _value(b'"', "😀".encode(), b'"'),
    "mixed characters": _value(b'"', "a日😀".encode(), b'"'),
    "deeper than allowed": lambda size: _HEAD + b'"x":' + b"[" * size,
    "cut": lambda size: _HEAD + b'"x":"' + b"x" * size,
})  # fmt: skip
