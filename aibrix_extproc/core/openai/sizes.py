"""How large a request is in tokens, as well as that can be told without a tokenizer: a token for four bytes."""

from typing import Final

import msgspec

BYTES_PER_TOKEN: Final = 4
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


def read_sizes(body: bytes) -> tuple[int | None, int | None]:
    """Tokens of the prompt (estimated) and tokens that the answer may have; None for what the body does not say."""
    try:
        sized = _DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None, None
    parts = (sized.messages, sized.prompt, sized.input, sized.system, sized.instructions)
    prompt = sum(len(bytes(part)) for part in parts)
    limits = (sized.max_tokens, sized.max_completion_tokens, sized.max_output_tokens)
    answer = next((found for raw in limits if (found := _count(bytes(raw))) is not None), None)
    return prompt // BYTES_PER_TOKEN if prompt else None, answer


def _count(raw: bytes) -> int | None:
    return int(raw) if raw.isdigit() and len(raw) < 20 else None
