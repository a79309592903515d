"""From messages and prompts to the bytes that the engine counts and caches.

The chat template puts the answer right behind the prompt, so that the next turn of a conversation
begins with the bytes of this one and finds its blocks in the prefix cache.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aibrix_extproc.simulator.errors import EngineError, bad_request, bad_value
from aibrix_extproc.simulator.tokenizer import count_tokens, decode

_MEDIA: Final = {"image_url", "input_image", "image", "input_audio", "audio_url", "video_url", "file"}
_MEDIA_BYTES: Final = 256
_CHARS_PER_TOKEN: Final = 128
"""Prompts with more characters than this for each token of the context are refused without counting."""


def render_chat(messages: Sequence[Mapping[str, Any]], tools: object, multimodal: bool, model: str) -> bytes:
    """The prompt of a conversation."""
    if not messages:
        raise bad_request("Cannot apply chat template to an empty conversation. Provide at least one message.")
    parts = [f"<|tools|>{json.dumps(tools, ensure_ascii=False)}\n"] if tools else []
    for message in messages:
        text = _content(message.get("content"), multimodal, model)
        if message.get("tool_calls"):
            text += json.dumps(message["tool_calls"], ensure_ascii=False)
        parts.append(f"<|{message.get('role', 'user')}|>{text}\n")
    parts.append("<|assistant|>")
    return "".join(parts).encode("utf-8", "replace")


def render_prompt(prompt: str | Sequence[int]) -> bytes:
    """The bytes of one completion prompt, given as text or as tokens."""
    if isinstance(prompt, str):
        return prompt.encode("utf-8", "replace")
    return decode(list(prompt)).encode("utf-8", "replace")


def split_prompts(
    prompt: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]] | None,
) -> list[str | list[int]]:
    """The single prompts of the four forms a prompt may have."""
    if prompt is None:
        return []
    if isinstance(prompt, str):
        return [prompt]
    numbers = [item for item in prompt if isinstance(item, int)]
    if numbers:
        return [numbers]
    return [item if isinstance(item, str) else list(item) for item in prompt if not isinstance(item, int)]


def check_length(prompt: str | Sequence[int] | None, data: bytes, requested: int | None, max_model_len: int) -> int:
    """The tokens of a prompt, or the refusal if they leave no room for an answer.

    A text is only counted up to one token more than fits, as in vLLM.
    """
    if requested is not None and requested > max_model_len:
        raise bad_value(
            "max_tokens",
            requested,
            f"max_tokens={requested} cannot be greater than max_model_len={max_model_len}. "
            "Please request fewer output tokens.",
        )
    tokens = count_tokens(data) if prompt is None or isinstance(prompt, str) else len(prompt)
    if tokens > max_model_len:
        raise too_long(data, tokens, max_model_len, exact=not (prompt is None or isinstance(prompt, str)))
    if tokens == max_model_len:
        raise bad_value("max_tokens", 0, "max_tokens must be at least 1, got 0.")
    return tokens


def too_long(data: bytes, tokens: int, max_model_len: int, exact: bool = False) -> EngineError:
    """The refusal of a prompt that does not fit into the context."""
    bound = _CHARS_PER_TOKEN * max_model_len
    if len(data) > bound and not exact:
        param, value = "input_text", len(data)
        what = (
            f"{value} characters (more than {bound} characters, which is the upper bound for "
            f"{max_model_len} input tokens)"
        )
    else:
        param, value = "input_tokens", tokens if exact else min(tokens, max_model_len + 1)
        what = (
            f"{'' if exact else 'at least '}{value} input tokens, which exceeds this limit even without any output "
            "tokens"
        )
    return bad_value(
        param,
        value,
        f"This model's maximum context length is {max_model_len} tokens. However, your prompt contains {what}. "
        "Please reduce the length of the input prompt.",
    )


def prompt_tokens_of(prompt: str | Sequence[int], data: bytes) -> int:
    """Tokens of one prompt; a list of tokens counts as what it is."""
    return count_tokens(data) if isinstance(prompt, str) else len(prompt)


def _content(content: object, multimodal: bool, model: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return json.dumps(content)
    return "".join(_part(part, multimodal, model) for part in content)


def _part(part: object, multimodal: bool, model: str) -> str:
    if not isinstance(part, dict):
        return str(part)
    if str(part.get("type")) in _MEDIA:  # whatever was sent in its place
        if not multimodal:
            raise bad_request(f"{model} is not a multimodal model", None)
        mark = zlib.crc32(json.dumps(part).encode())
        return f"<media {mark:08x}>".ljust(_MEDIA_BYTES, ".")
    for key in ("text", "content", "refusal", "output"):
        if isinstance(part.get(key), str):
            return str(part[key])
    return json.dumps(part, ensure_ascii=False)
