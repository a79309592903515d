"""A trace: requests with their times and lengths, and which of them begin with the same text.

A prompt is a number of tokens and the ids of its full blocks. Equal ids stand for equal content of the block and of
everything before it, as in Mooncake's traces and in the prefix caches of engines. A trace has no text.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final

import msgspec

BLOCK_TOKENS: Final = 512  # as in Mooncake's traces
MODEL: Final = "model"


class Request(msgspec.Struct, frozen=True, gc=False):
    """One request of a trace."""

    at: float  # seconds since the start of the trace
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()  # ids of the full blocks of the prompt; none: nothing is known of its prefix
    session: str = ""  # what requests of one conversation have in common
    model: str = MODEL  # or an adapter of it


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of their times. `block_tokens`: tokens in one block."""

    name: str
    requests: tuple[Request, ...]
    block_tokens: int = BLOCK_TOKENS

    @property
    def has_prefixes(self) -> bool:
        """Whether anything is known of the prompts' prefixes; without it no cache can be simulated."""
        return any(one.blocks for one in self.requests)

    @property
    def seconds(self) -> float:
        """From the first to the last request."""
        return self.requests[-1].at - self.requests[0].at if self.requests else 0.0


def trace_of(name: str, requests: Iterable[Request], block_tokens: int = BLOCK_TOKENS) -> Trace:
    """A trace from requests in any order; the first is moved to second 0."""
    ordered = sorted(requests, key=lambda one: one.at)
    if not ordered:
        raise TraceError("it has no requests")
    start = ordered[0].at
    moved = (msgspec.structs.replace(one, at=one.at - start) for one in ordered) if start else ordered
    return Trace(name, tuple(moved), block_tokens)


def sped_up(trace: Trace, factor: float) -> Trace:
    """The same requests at `factor` times the rate."""
    if factor == 1.0:
        return trace
    moved = tuple(msgspec.structs.replace(one, at=one.at / factor) for one in trace.requests)
    return Trace(trace.name, moved, trace.block_tokens)


class TraceError(ValueError):
    """A trace that cannot be used; says why, and in which line."""


class Text(msgspec.Struct, frozen=True, gc=False):
    """What a generator knows of a prompt: its length, and the ids of its full blocks."""

    tokens: int = 0
    blocks: tuple[int, ...] = ()


class Writer:
    """Makes texts whose blocks have new ids. `block_tokens`: tokens in one block."""

    def __init__(self, block_tokens: int = BLOCK_TOKENS) -> None:
        self.block_tokens = block_tokens
        self._ids: Iterator[int] = count()

    def extended(self, text: Text, tokens: int) -> Text:
        """The text with so many new tokens at its end. A block that was not full gets its id now."""
        length = text.tokens + tokens
        new = length // self.block_tokens - len(text.blocks)
        return Text(length, (*text.blocks, *(next(self._ids) for _ in range(new))))
