"""Hashes the prompt of a request in blocks, so that prompts which begin alike have the same first hashes.

Each hash has the one before it as its seed, so one hash stands for everything up to the end of its block. A block ends
at the end of a message, too: a conversation that goes on has all blocks of its earlier turns. What engines put before
the messages, or what makes another prompt of the same messages, comes first.

Bounded for any body: one pass over at most MAX_MESSAGES messages, in blocks that grow with the place.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
from msgspec.structs import astuple
from xxhash import xxh3_64_intdigest

from aibrix_extproc.core.openai.wire.splice import offset

MAX_MESSAGES: Final = 128  # whose ends are block ends; what follows them is hashed as one text
_SHORTEST: Final = 256  # bytes of a block that ends with a message
_STEPS: Final = ((16_384, 1024), (262_144, 4096), (4_194_304, 16_384))  # block size in bytes up to this place
_LONGEST: Final = 65_536  # behind all of them
_MEDIA: Final = re.compile(rb"[A-Za-z0-9+/=_-]{64}")  # base64: no text has words so long
_MEDIA_SHARE: Final = 256  # bytes of media that count as one of text: an image of 1 MB has about a thousand tokens

SEEDS: Final = ("model", "cache_salt", "chat_template_kwargs", "response_format")  # make another prompt of the rest
FIRST: Final = ("tools", "system", "instructions")  # stand before the messages
RAW: Final = (*SEEDS[1:], *FIRST, "prompt")  # members that are read whole
ARRAYS: Final = ("messages", "input")  # members of which the elements are read

_ABSENT: Final = msgspec.Raw()
# An array of which the first elements are views and all others are skipped. A list would keep as many as are written.
_Elements: Final = msgspec.defstruct(
    "_Elements", [(f"at_{index}", msgspec.Raw, _ABSENT) for index in range(MAX_MESSAGES)], array_like=True
)
ELEMENTS: Final = _Elements | str | None  # the type of these members in a decoder
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


def chain_of(body: bytes, member: Callable[[str], object], seed: int) -> PrefixChain:
    """The chain of a body whose members have been read as RAW and ARRAYS say. `seed`: this process's own, 64 bits."""
    for index, name in enumerate(SEEDS):
        raw = member(name)
        if isinstance(raw, msgspec.Raw) and raw is not _ABSENT:
            seed = xxh3_64_intdigest(raw, seed ^ index)
    return _hashed(_pieces(body, member), seed)


def _pieces(body: bytes, member: Callable[[str], object]) -> Iterator[_Buffer]:
    """The texts of a prompt in order; a block may end with each."""
    for name in (*FIRST, "prompt"):
        raw = member(name)
        if isinstance(raw, msgspec.Raw) and raw is not _ABSENT:
            yield raw
    for name in ARRAYS:
        value = member(name)
        if isinstance(value, str):
            yield value.encode()
        elif value is not None:
            yield from _elements(body, astuple(value))  # type: ignore[arg-type]


def _elements(body: bytes, elements: tuple[msgspec.Raw, ...]) -> Iterator[_Buffer]:
    last = elements[-1]
    if last is _ABSENT:
        yield from elements[: elements.index(_ABSENT)]
        return
    yield from elements
    # Where the array ends is not known. Members behind it change the last block only, as every new message does.
    yield memoryview(body)[offset(body, last) + len(last) :]


def _hashed(pieces: Iterator[_Buffer], seed: int) -> PrefixChain:
    hashes: list[int] = []
    ends: list[int] = []
    steps = iter(_STEPS)
    until, step = next(steps)
    place = size = open_bytes = 0  # bytes read; the same with media as text; bytes since the last end of a block
    for piece in pieces:
        left = memoryview(piece).nbytes
        view, at = (None, 0) if open_bytes + left <= step else (memoryview(piece), 0)
        while left:
            taken = min(left, step - open_bytes)
            part = piece if view is None else view[at : at + taken]
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
