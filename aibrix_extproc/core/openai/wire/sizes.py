"""How large a request is in tokens, estimated without a tokenizer: a token for four bytes."""

import re
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from aibrix_extproc.rope import Rope

BYTES_PER_TOKEN: Final = 4
_LONGEST_COUNT: Final = 24
_COUNT: Final = re.compile(rb'("?)\+?([0-9]+)(?:\.0+)?\1')
_PROMPTS: Final = ("messages", "prompt", "input", "system", "instructions")
LIMITS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")  # as in vLLM the newer name wins
MEMBERS: Final = (*_PROMPTS, *LIMITS)


Sizes = tuple[int | None, int | None]
"""Tokens of the prompt (estimated) and tokens that the answer may have; None for what the body does not say."""

UNKNOWN: Final[Sizes] = (None, None)


def sizes_of(members: Callable[[str], msgspec.Raw]) -> Sizes:
    """The sizes that a JSON body tells, out of its `MEMBERS`; one that it does not have is empty."""
    return sizes_with(sum(memoryview(members(name)).nbytes for name in _PROMPTS), map(members, LIMITS))


def sizes_with(prompt_bytes: int, limits: Iterable[msgspec.Raw]) -> Sizes:
    """The sizes of a request whose prompt has so many bytes, and which has these LIMITS; empty ones are absent."""
    answer = next((found for raw in limits if len(raw) and (found := _count(raw)) is not None), None)
    return prompt_bytes // BYTES_PER_TOKEN if prompt_bytes else None, answer


def _count(raw: msgspec.Raw) -> int | None:
    """A number of tokens as engines take it: `16`, `16.0` and `"16"` are the same to them."""
    if len(raw) >= _LONGEST_COUNT:
        return None
    match = _COUNT.fullmatch(bytes(raw))
    return int(match[2]) if match else None


MEDIA_BYTES: Final = 8192  # a shorter body has no media that matters
_MEDIA: Final = b";base64,"  # of a data URL


def has_media(body: bytes | Rope) -> bool:
    """Whether the bytes of a body say little of its tokens: it has data URLs, or is larger than prompts are."""
    return isinstance(body, Rope) or _MEDIA in body
