"""A signed statement between our processes: the caller, the request, the operation, the expiry.

The gateway writes it into a header that only it may set; the metadata service reads it. HMAC-SHA256 with a key of
32 bytes or more that our processes share. Several keys are accepted while one replaces another; the first signs.
"""

import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

import msgspec

from aibrix_extproc.core.access.principal import Grants

LIFE_SECONDS: Final = 120  # from the request's head to the service; it also covers the difference of clocks
MAX_LENGTH: Final = 8192
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_URL_UNSAFE: Final = bytes.maketrans(b"-_", b"+/")


class SignedCaller(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The signed statement."""

    caller: str
    request_id: str
    operation: str  # id of its row
    wall_expires_at: int  # seconds since the epoch
    batch_id: str = ""  # of the batch that the request is a line of
    grants: Grants | None = None  # of administrators and operators, for operations that are theirs


_DECODER: Final = msgspec.json.Decoder(SignedCaller)
_ENCODER: Final = msgspec.json.Encoder()


def sign(key: bytes, header: str, statement: SignedCaller) -> str:
    """The value of that header; it is not valid in another header."""
    payload = _ENCODER.encode(statement)
    return f"{_text(payload)}.{_text(_mac(key, header, payload))}"


def verify(
    keys: Sequence[bytes], header: str, value: str | None, operation: str, wall_now: float
) -> SignedCaller | None:
    """The statement, if one of the keys signed it for this operation and its time is not over; None otherwise."""
    if value is None or len(value) > MAX_LENGTH:
        return None
    first, _, second = value.partition(".")
    payload, given = _bytes(first), _bytes(second)
    if payload is None or given is None:
        return None
    if not any(hmac.compare_digest(_mac(key, header, payload), given) for key in keys):
        return None
    try:
        found = _DECODER.decode(payload)
    except msgspec.DecodeError:
        return None
    return found if found.operation == operation and wall_now < found.wall_expires_at else None


def _mac(key: bytes, header: str, payload: bytes) -> bytes:
    return hmac.digest(key, b"%b\0%b" % (header.encode(), payload), hashlib.sha256)


def _text(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).translate(_URL_SAFE).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes | None:
    try:
        raw = text.encode("ascii").translate(_URL_UNSAFE)
        return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4), strict_mode=True)
    except ValueError:
        return None
