"""Hashes the prompt of a request in blocks, so that prompts which begin alike have the same first hashes.

Each hash has the one before it as its seed, so one hash stands for everything up to the end of its block. A block ends
at the end of a message, too: a conversation that goes on has all blocks of its earlier turns. What engines put before
the messages, or what makes another prompt of the same messages, comes first.

Bounded for any body: one pass over at most MAX_MESSAGES messages, in blocks that grow with the place.
"""

import re
from collections.abc import Sequence
from operator import attrgetter
from typing import Final

import msgspec
from msgspec.structs import astuple
from xxhash import xxh3_64_intdigest

from aibrix_extproc.core.openai.wire.splice import offset

SHORTEST_PROMPT: Final = 2048  # bytes of a body; an engine computes shorter prompts in milliseconds, cached or not
MAX_MESSAGES: Final = 64  # whose ends are block ends; what follows them is hashed as one text
_SHORTEST: Final = 256  # bytes of a block that ends with a message
_STEPS: Final = ((16_384, 1024), (262_144, 4096), (4_194_304, 16_384))  # block size in bytes up to this place
_LONGEST: Final = 65_536  # behind all of them
_MEDIA: Final = re.compile(rb"[A-Za-z0-9+/=_-]{64}")  # base64: no text has words so long
_MEDIA_SHARE: Final = 256  # bytes of media that count as one of text: an image of 1 MB has about a thousand tokens

# Members that make another prompt of the rest; that stand before the messages; of which the elements are read.
SEEDS: Final = ("model", "cache_salt", "chat_template_kwargs", "response_format")
FIRST: Final = ("tools", "system", "instructions", "prompt")
ARRAYS: Final = ("messages", "input")
RAW: Final = (*SEEDS[1:], *FIRST)  # are read whole
_read_seeds: Final = attrgetter(*SEEDS)
_read_first: Final = attrgetter(*FIRST)
_read_arrays: Final = attrgetter(*ARRAYS)

_ABSENT: Final = msgspec.Raw()
# An array of which the first elements are views and all others are skipped. A list would keep as many as are written.
_Elements: Final = msgspec.defstruct(
    "_Elements", [(f"at_{index}", msgspec.Raw, _ABSENT) for index in range(MAX_MESSAGES)], array_like=True
)
ELEMENTS: Final = _Elements | str | None  # the type of these members in a decoder
_ELEMENTS: Final = msgspec.json.Decoder(ELEMENTS)
# Each repetition of such a member would be read into 64 places, which takes eleven times the bytes' share. Members of
# longer bodies are read as msgspec.Raw, and the last of each name a second time: half as much again as at once.
READ_AT_ONCE: Final = 65_536  # bytes of a body
_Buffer = bytes | memoryview | msgspec.Raw


class PrefixChain(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The blocks of a prompt, first to last: the hash up to the end of each, and how many bytes of text that is.

    Bytes of media count for less. The hashes mean nothing to a process with another seed.
    """

    hashes: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the whole prompt."""
        return self.ends[-1] if self.ends else 0


def chain_of(body: bytes, members: object, seed: int) -> PrefixChain:
    """The chain of a body. `members` are its attributes as RAW and ARRAYS say; `seed`: this process's own, 64 bits.

    Raises msgspec.DecodeError where an array was read as Raw and is none.
    """
    raws: tuple[msgspec.Raw, ...] = _read_seeds(members)
    for index, raw in enumerate(raws):
        if raw is not _ABSENT:
            seed = xxh3_64_intdigest(raw, seed ^ index)
    pieces: list[_Buffer] = [raw for raw in _read_first(members) if raw is not _ABSENT]
    for found in _read_arrays(members):
        value = _ELEMENTS.decode(found) if type(found) is msgspec.Raw and len(found) else found
        if type(value) is _Elements:
            pieces += _elements(body, value)
        elif type(value) is str:
            pieces.append(value.encode())
    return _hashed(pieces, seed)


def _elements(body: bytes, array: msgspec.Struct) -> Sequence[_Buffer]:
    elements: tuple[msgspec.Raw, ...] = astuple(array)
    last = elements[-1]
    if last is _ABSENT:
        return elements[: elements.index(_ABSENT)]
    # Where the array ends is not known. Members behind it change the last block only, as every new message does.
    return (*elements, memoryview(body)[offset(body, last) + len(last) :])


def _hashed(pieces: Sequence[_Buffer], seed: int) -> PrefixChain:
    hashes: list[int] = []
    ends: list[int] = []
    steps = iter(_STEPS)
    until, step = next(steps)
    place = size = open_bytes = 0  # bytes read; the same with media as text; bytes since the last end of a block
    for piece in pieces:
        left, at = len(piece), 0
        part = piece
        view = memoryview(piece) if open_bytes + left > step else None
        while left:
            taken = left
            if view is not None:
                taken = min(left, step - open_bytes)
                part = view[at : at + taken]
            seed = xxh3_64_intdigest(part, seed)
            left, at, place, open_bytes = left - taken, at + taken, place + taken, open_bytes + taken
            size += taken if taken < 1024 or _MEDIA.match(part) is None else taken // _MEDIA_SHARE
            if open_bytes == step or (not left and open_bytes >= _SHORTEST):
                hashes.append(seed)
                ends.append(size)
                open_bytes = 0
                if place >= until:
                    until, step = next(steps, (1 << 62, _LONGEST))
    if open_bytes:
        hashes.append(seed)
        ends.append(size)
    return PrefixChain(tuple(hashes), tuple(ends))
