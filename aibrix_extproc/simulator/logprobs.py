"""Log probabilities for tokens that no model computed: plausible numbers, derived from the token."""

import zlib
from collections.abc import Sequence
from typing import Any


def token_logprob(piece: str) -> float:
    """A number between -2 and 0 that depends on the token."""
    return -(zlib.crc32(piece.encode("utf-8", "replace")) % 2000) / 1000


def chat_logprobs(pieces: Sequence[str], top: int) -> dict[str, Any]:
    """The `logprobs` of a chat choice or chunk."""
    return {"content": [_entry(piece, top) for piece in pieces]}


def completion_logprobs(pieces: Sequence[str], top: int, offset: int = 0) -> dict[str, Any]:
    """The `logprobs` of a text completion's choice or chunk."""
    offsets = []
    for piece in pieces:
        offsets.append(offset)
        offset += len(piece)
    return {
        "text_offset": offsets,
        "token_logprobs": [token_logprob(piece) for piece in pieces],
        "tokens": list(pieces),
        "top_logprobs": [{piece: token_logprob(piece), **_others(piece, top - 1)} for piece in pieces],
    }


def echoed_logprobs(prompt: Sequence[str], pieces: Sequence[str], top: int) -> dict[str, Any]:
    """The `logprobs` of a prompt and what follows it: nothing is known of the first token, as in vLLM.

    Now and then another token than the prompt's own is the likeliest.
    """
    after = completion_logprobs(pieces, top, sum(map(len, prompt)))
    before = completion_logprobs(prompt, top)
    for at, piece in enumerate(prompt):
        number = token_logprob(piece)
        if top > 0 and int(number * 1000) % 3 == 0:
            before["top_logprobs"][at] = {" 000": number / 2, piece: number, **_others(piece, top - 2)}
    if prompt:
        before["token_logprobs"][0] = before["top_logprobs"][0] = None
    return {name: [*values, *after[name]] for name, values in before.items()}


def _entry(piece: str, top: int) -> dict[str, Any]:
    best = _plain(piece, token_logprob(piece))
    others = [_plain(text, number) for text, number in _others(piece, top - 1).items()]
    return {**best, "top_logprobs": [best, *others] if top > 0 else []}


def _others(piece: str, count: int) -> dict[str, float]:
    return {f" {rank:03d}": token_logprob(piece) - 1.0 - rank for rank in range(max(0, count))}


def _plain(text: str, number: float) -> dict[str, Any]:
    return {"token": text, "logprob": number, "bytes": list(text.encode("utf-8", "replace"))}
