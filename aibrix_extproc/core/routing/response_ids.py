"""Ids of responses: each one names, opaquely and authenticated, the endpoints that may hold the response.

vLLM keeps a response in the memory of the process that made it and takes its id from the request. So the gateway writes
the id, and any gateway process with the same secret finds the holder from the id alone, without shared memory. An id
holds no address and no name: endpoints and model are keyed hashes, which must match a live endpoint. The MAC covers the
caller, so another caller's id is as unknown as a forged one.

Layout: 16 bytes MAC, then the content, encrypted with a key stream made from the MAC (the construction of SIV).
"""

import binascii
import hashlib
import hmac
import struct
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from aibrix_extproc.core.fleet.model import Endpoint

PREFIX: Final = "resp_"
MAX_HOLDERS: Final = 4
KEEP_SECONDS: Final = 30 * 86_400  # OpenAI keeps a response for 30 days

_MAC_BYTES: Final = 16
_TAG_BYTES: Final = 5
_HEAD: Final = struct.Struct(f">IQ{_TAG_BYTES}s")  # seconds since the epoch, random, model
_FEWEST: Final = _MAC_BYTES + _HEAD.size + _TAG_BYTES
_MOST: Final = _MAC_BYTES + _HEAD.size + MAX_HOLDERS * _TAG_BYTES
_MAX_TAGS: Final = 16_384  # kept, so that a large fleet is not hashed for each lookup
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_URL_UNSAFE: Final = bytes.maketrans(b"-_", b"+/")
MAX_LENGTH: Final = len(PREFIX) + -(-_MOST * 4 // 3)


class Claim(msgspec.Struct, frozen=True, gc=False):
    """The content of an id of ours."""

    key: "IdKey"  # that made it
    wall_at: int  # seconds since the epoch
    model: bytes
    holders: tuple[bytes, ...]  # in the order in which they were asked

    def held_by(self, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
        """Those endpoints that the id names, in its order."""
        tag, holders = self.key.tag, self.holders
        found = {name: one for one in endpoints if (name := tag(one.identity)) in holders}
        return tuple(found[name] for name in holders if name in found)

    def is_of(self, model: str) -> bool:
        """Whether the response was made by this model."""
        return self.key.tag(model) == self.model


class IdKey:
    """Makes and reads ids with one secret, from which it derives keys of its own, so that it may serve other uses."""

    __slots__ = ("_mac", "_stream", "_tag", "_tags")

    def __init__(self, secret: bytes) -> None:
        self._mac, self._stream, self._tag = (
            hmac.digest(secret, b"aibrix-extproc response id 1 " + use, hashlib.sha256)
            for use in (b"mac", b"stream", b"tag")
        )
        self._tags: dict[str, bytes] = {}

    def issue(self, caller: str, model: str, holders: Sequence[Endpoint], wall_at: float, random: float) -> str:
        """A new id. `holders`: the endpoints that will be asked, in order; `random`: 0 <= random < 1."""
        content = _HEAD.pack(int(wall_at), int(random * 2**53), self.tag(model))
        content += b"".join([self.tag(one.identity) for one in holders[:MAX_HOLDERS]])
        mac = self._sum(caller, content)
        return _text(mac + self._mixed(mac, content))

    def read(self, caller: str, raw: bytes) -> Claim | None:
        """The content, if this key made the id for this caller."""
        mac = raw[:_MAC_BYTES]
        content = self._mixed(mac, raw[_MAC_BYTES:])
        if not hmac.compare_digest(self._sum(caller, content), mac):
            return None
        wall_at, _, model = _HEAD.unpack_from(content)
        return Claim(self, wall_at, model, tuple(_cut(content[_HEAD.size :])))

    def tag(self, name: str) -> bytes:
        """What stands for an endpoint's identity or a model's name in ids."""
        known = self._tags.get(name)
        if known is None:
            if len(self._tags) >= _MAX_TAGS:
                self._tags.clear()
            known = hmac.digest(self._tag, name.encode("utf-8", "surrogatepass"), hashlib.sha256)[:_TAG_BYTES]
            self._tags[name] = known
        return known

    def _sum(self, caller: str, content: bytes) -> bytes:
        name = caller.encode("utf-8", "surrogatepass")
        return hmac.digest(self._mac, struct.pack(">I", len(name)) + name + content, hashlib.sha256)[:_MAC_BYTES]

    def _mixed(self, mac: bytes, content: bytes) -> bytes:
        """Content encrypted or decrypted; at most 64 bytes."""
        size = len(content)
        stream = hmac.digest(self._stream, mac, hashlib.sha512)[:size]
        return (int.from_bytes(content) ^ int.from_bytes(stream)).to_bytes(size)


def read_id(keys: Iterable[IdKey], caller: str, response_id: str) -> Claim | None:
    """The content of an id that one of these keys made for this caller; None for all others."""
    raw = _raw(response_id)
    if raw is None:
        return None
    return next((claim for key in keys if (claim := key.read(caller, raw)) is not None), None)


def _cut(tags: bytes) -> Iterable[bytes]:
    return (tags[at : at + _TAG_BYTES] for at in range(0, len(tags), _TAG_BYTES))


def _text(raw: bytes) -> str:
    return PREFIX + binascii.b2a_base64(raw, newline=False).translate(_URL_SAFE).rstrip(b"=").decode("ascii")


def _raw(response_id: str) -> bytes | None:
    """The bytes behind an id, if it has the form of one. Each sequence of bytes has one spelling only."""
    if len(response_id) > MAX_LENGTH or not response_id.startswith(PREFIX) or not response_id.isascii():
        return None
    text = response_id.removeprefix(PREFIX).encode("ascii").translate(_URL_UNSAFE)
    try:
        raw = binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error:
        return None
    fits = _FEWEST <= len(raw) <= _MOST and (len(raw) - _FEWEST) % _TAG_BYTES == 0
    return raw if fits and _text(raw) == response_id else None
