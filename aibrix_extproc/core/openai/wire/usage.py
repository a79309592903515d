"""What an answer cost in tokens."""

import msgspec


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one exchange. `cached_tokens` are a part of the input, `reasoning_tokens` of the output."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
