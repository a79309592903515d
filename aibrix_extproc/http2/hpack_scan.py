"""Facts about an encoded header block (RFC 7541) that are found without decoding it."""

from aibrix_extproc.http2.errors import ProtocolError
from aibrix_extproc.http2.frames import ErrorCode


def leaves_table(block: bytes) -> bool:
    """Whether a valid block leaves the dynamic table as it is (RFC 7541, 6).

    All of its fields are then indexed already, or literals without indexing, as Envoy sends `:path`. Numbers of several
    octets count as a change, which is always safe.
    """
    at = 0
    while at < len(block):
        octet = block[at]
        at += 1
        if octet & 0x80:
            if octet == 0xFF:
                return False
        elif octet & 0x60 or octet & 0x0F == 0x0F:
            return False
        else:
            for _ in range(1 if octet & 0x0F else 2):  # the value, and the name unless an index stands for it
                length = block[at] & 0x7F
                if length == 0x7F:
                    return False
                at += 1 + length
    return True


def has_more_fields(block: bytes, limit: int) -> bool:
    """Whether a block has more fields than the limit. Updates of the table's size count as fields."""
    at, fields, end = 0, 0, len(block)
    while at < end:
        fields += 1
        if fields > limit:
            return True
        octet = block[at]
        if octet & 0x80:
            at = _number(block, at, 0x7F)[1]
        elif octet & 0x60 == 0x20:
            at = _number(block, at, 0x1F)[1]
        else:
            index, at = _number(block, at, 0x3F if octet & 0x40 else 0x0F)
            for _ in range(1 if index else 2):  # the value, and the name unless an index stands for it
                if at >= end:
                    return False
                length, at = _number(block, at, 0x7F)
                at += length
    return False


def _number(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """An integer (RFC 7541, 5.1) and the offset behind it. Raises ProtocolError for one that does not end."""
    number = block[at] & mask
    at += 1
    if number < mask:
        return number, at
    for shift, octet in zip(range(0, 35, 7), block[at : at + 5], strict=False):
        at += 1
        number += (octet & 0x7F) << shift
        if not octet & 0x80:
            return number, at
    raise ProtocolError(ErrorCode.COMPRESSION_ERROR, "a header block cannot be read")
