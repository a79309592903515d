"""Seals: proof that one of our processes wrote what an access log entry is charged by.

A sealed text is all that is charged, as JSON, with a keyed BLAKE2b in front of it. The check reads these very bytes, so
nothing is sorted or encoded again. Processes that share a key accept each other's texts. Each text has a running number
of its process, so that a repeated entry is recognised even if a client chose the request id.
"""

import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

import msgspec

MIN_KEY_BYTES: Final = 32
_PURPOSE: Final = b"aibrix note 2"  # the same secret has other uses
_MAC_BYTES: Final = 18  # a multiple of three needs no padding
_MAC_CHARACTERS: Final = _MAC_BYTES * 4 // 3


class SealedPlacement(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The content of a sealed text: one placement, its time and number, and what is charged to which caller."""

    wall_at: int  # seconds since the epoch
    issuer: int  # the process: random
    number: int  # of the placement, by its issuer
    request_id: str
    operation: str
    model: str
    caller: str
    stream: str  # how the operation streams if it does
    # Fields from here on have defaults, so that processes of the version before and after can read each other's texts.
    key_id: str = ""  # of the key that was presented; empty if there was none
    batch_id: str = ""  # of the batch that the request is a line of
    response_id: str = ""  # of the response that the request makes or retrieves
    reservation: str = ""  # of a limited caller: what is settled by the entry, at whichever replica

    @property
    def exchange_id(self) -> str:
        """The id of the exchange over all replicas: an exchange is placed once, whatever its attempts."""
        return f"{self.issuer:016x}-{self.number}"


class SealKey:
    """A secret, ready for keyed BLAKE2b (RFC 7693): the state with the key in it is made once and copied.

    `purpose`: at most 16 bytes; what is made for one purpose is not valid for another.
    """

    __slots__ = ("_start",)

    def __init__(self, secret: bytes, purpose: bytes = _PURPOSE) -> None:
        key = hashlib.blake2b(secret, person=purpose).digest()  # secrets may be longer than BLAKE2b's keys
        self._start = hashlib.blake2b(key=key, digest_size=_MAC_BYTES, person=purpose)

    def mac(self, content: bytes) -> bytes:
        """The authentication code, as 24 characters."""
        state = self._start.copy()
        state.update(content)
        return binascii.b2a_base64(state.digest(), newline=False)

    def seal(self, content: bytes) -> bytes:
        """The content with its authentication code in front."""
        return self.mac(content) + content

    def open(self, data: bytes) -> bytes | None:
        """The content of what `seal` has made with this key; None for anything else."""
        content = data[_MAC_CHARACTERS:]
        return content if hmac.compare_digest(self.mac(content), data[:_MAC_CHARACTERS]) else None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(SealedPlacement).decode


def sealed(key: SealKey, placed: SealedPlacement) -> bytes:
    """The placement as a sealed text, in UTF-8."""
    content = _encode(placed)
    return key.mac(content) + content


def opened(keys: Sequence[SealKey], text: bytes) -> SealedPlacement | None:
    """The content of a sealed text; None if no key has made it."""
    given, content = text[:_MAC_CHARACTERS], text[_MAC_CHARACTERS:]
    for key in keys:
        if hmac.compare_digest(key.mac(content), given):
            try:
                return _decode(content)
            except msgspec.DecodeError:  # of another version of this text
                return None
    return None
