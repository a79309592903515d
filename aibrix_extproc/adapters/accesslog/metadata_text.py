"""A text out of a serialised `google.protobuf.Struct`, as Envoy's metadata are, without a tree of it."""

from typing import Final

_KEY_TAG, _VALUE_TAG, _TEXT_TAG = 0x0A, 0x12, 0x1A  # of an entry of a map, and of a Value that is a text
_MAX_NAME: Final = 0x7F


class TextIn:
    """Finds the text of one name, in a quarter of the time that the protobuf library takes.

    It looks for the entry's beginning, and does not read what stands before it: use it where other values cannot hold
    such bytes, or where a wrong text does no harm.
    """

    def __init__(self, name: str) -> None:
        key = name.encode()
        if len(key) > _MAX_NAME:
            raise ValueError(f"a name of {len(key)} bytes")
        self._head = bytes((_KEY_TAG, len(key))) + key + bytes((_VALUE_TAG,))

    def __call__(self, struct: bytes) -> bytes:
        """The text in UTF-8; empty if there is none."""
        at = struct.find(self._head)
        if at < 0:
            return b""
        at += len(self._head)
        try:
            while struct[at] & 0x80:  # the length of the value, which ends with its text
                at += 1
            if struct[at + 1] != _TEXT_TAG:
                return b""
            at += 2
            size = shift = 0
            while (byte := struct[at]) & 0x80:
                size |= (byte & 0x7F) << shift
                shift += 7
                at += 1
        except IndexError:
            return b""
        at += 1
        return struct[at : at + (size | byte << shift)]
