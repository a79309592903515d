"""How large a request is in tokens, estimated without a tokenizer: a token for four bytes."""

import re
from typing import Final

import msgspec

from aibrix_extproc.rope import Rope

BYTES_PER_TOKEN: Final = 4
_LONGEST_COUNT: Final = 24
_COUNT: Final = re.compile(rb'("?)\+?([0-9]+)(?:\.0+)?\1')
_ABSENT: Final = msgspec.Raw()


class _Sized(msgspec.Struct):
    messages: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT
    input: msgspec.Raw = _ABSENT
    system: msgspec.Raw = _ABSENT
    instructions: msgspec.Raw = _ABSENT
    max_tokens: msgspec.Raw = _ABSENT
    max_completion_tokens: msgspec.Raw = _ABSENT
    max_output_tokens: msgspec.Raw = _ABSENT


_DECODER: Final = msgspec.json.Decoder(_Sized)


Sizes = tuple[int | None, int | None]
"""Tokens of the prompt (estimated) and tokens that the answer may have; None for what the body does not say."""

UNKNOWN: Final[Sizes] = (None, None)


def read_sizes(body: bytes) -> Sizes:
    """The sizes that a JSON body tells."""
    try:
        sized = _DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return UNKNOWN
    parts = (sized.messages, sized.prompt, sized.input, sized.system, sized.instructions)
    prompt = sum(memoryview(part).nbytes for part in parts)
    # As in vLLM the newer name wins.
    limits = (sized.max_completion_tokens, sized.max_tokens, sized.max_output_tokens)
    answer = next((found for raw in limits if (found := _count(raw)) is not None), None)
    return prompt // BYTES_PER_TOKEN if prompt else None, answer


def _count(raw: msgspec.Raw) -> int | None:
    """A number of tokens as engines take it: `16`, `16.0` and `"16"` are the same to them."""
    if not 0 < memoryview(raw).nbytes < _LONGEST_COUNT:
        return None
    match = _COUNT.fullmatch(bytes(raw))
    return int(match[2]) if match else None


MEDIA_BYTES: Final = 8192  # a shorter body has no media that matters
_MEDIA: Final = b";base64,"  # of a data URL


def has_media(body: bytes | Rope) -> bool:
    """Whether the bytes of a body say little of its tokens: it has data URLs, or is larger than prompts are."""
    return isinstance(body, Rope) or _MEDIA in body
