"""A bulletin: what one gateway did with requests in a moment, as MessagePack.

Times are seconds before the bulletin was sent, as clocks of processes have nothing in common. One that is repeated is
recognised by its number, or by its age. Who brings bulletins sees to it that they are ours.
"""

import struct
from itertools import pairwise
from typing import Final

import msgspec

from aibrix_extproc.core.openai.wire.prefix import PrefixChain

MAX_BULLETIN_BYTES: Final = 8_192
MAX_BLOCKS: Final = 384  # of a prompt that are told, the first ones; 12 bytes each


class Placed(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An engine got a request."""

    number: int  # of the request, by its sender
    engine: int  # place in the bulletin's identities
    model: int  # place in the bulletin's models
    ago: float  # seconds
    tokens: float  # to be computed
    hashes: bytes  # of the chain, 8 bytes each
    ends: bytes  # 4 bytes each

    @property
    def chain(self) -> PrefixChain:
        """The beginning of the prompt. Raises struct.error or ValueError for what is none."""
        count = len(self.hashes) // 8
        hashes, ends = struct.unpack(f"<{count}Q", self.hashes), struct.unpack(f"<{count}I", self.ends)
        if any(one >= after for one, after in pairwise(ends)):
            raise ValueError("ends of blocks that do not rise")
        return PrefixChain(hashes, ends)


class Ended(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A request is over."""

    number: int
    ago: float
    served: bool


class Computed(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """It is known what a request that is over cost, and perhaps when its first token came."""

    number: int
    tokens: float  # that were computed
    first_ago: float | None


class Charged(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An entry of the access log for a request that another gateway has placed: Envoy sends them to any."""

    request_id: str
    usage: tuple[int, int, int] | None  # tokens of the prompt, of the answer, and cached ones
    after_head: float | None  # seconds from the head of the answer to its first token
    streamed: bool


class Bulletin(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Of one gateway process."""

    sender: int  # random, of the process
    number: int  # of the bulletin, one more each time
    wall_at: int  # seconds since the epoch
    sent_at: float  # by the sender's own clock
    identities: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    placed: tuple[Placed, ...] = ()
    ended: tuple[Ended, ...] = ()
    computed: tuple[Computed, ...] = ()
    charged: tuple[Charged, ...] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Bulletin).decode


def packed_chain(chain: PrefixChain | None) -> tuple[bytes, bytes]:
    """The hashes and the ends of the first blocks of a prompt."""
    if chain is None:
        return b"", b""
    count = min(len(chain.hashes), MAX_BLOCKS)
    ends = [min(one, 2**32 - 1) for one in chain.ends[:count]]
    return struct.pack(f"<{count}Q", *chain.hashes[:count]), struct.pack(f"<{count}I", *ends)


def encoded_bulletin(bulletin: Bulletin) -> bytes:
    """The bulletin as bytes."""
    return _encode(bulletin)


def decoded_bulletin(data: bytes) -> Bulletin | None:
    """What the bytes say; None for what is no bulletin, or of another version."""
    try:
        return _decode(data)
    except msgspec.DecodeError:
        return None
