"""Streams as engines send them, one of each kind, and what their usage is."""

import json
from typing import Any, Final


def data(value: object) -> bytes:
    """A `data:` event without spaces, as vLLM writes chunks."""
    return b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def typed(kind: str, **fields: Any) -> bytes:
    """A named event."""
    return f"event: {kind}\n".encode() + data({"type": kind, **fields})


def chunk(text: str | None, finish: str | None = None, **more: Any) -> bytes:
    """A chunk of a chat completion."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return data({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more})


def usage_chunk(usage: dict[str, Any]) -> bytes:
    """The chunk without choices."""
    return data({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [], "usage": usage})


DONE: Final = b"data: [DONE]\n\n"
CHAT_USAGE: Final = {
    "prompt_tokens": 11, "total_tokens": 14, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8},
}  # fmt: skip
TEXTS: Final = ("Grüße", ' "usage":{"prompt_tokens":9} ', "\n\ndata: [DONE]\r\n", ' "error": {} ', "\U0001f600")
CHUNKS: Final = b"".join(chunk(text) for text in TEXTS) + chunk("", "stop")
CHAT: Final = b": keep-alive\n\n" + CHUNKS + DONE
CHAT_WITH_USAGE: Final = CHUNKS + usage_chunk(CHAT_USAGE) + DONE

_RESPONSE: Final = {"id": "resp_1", "object": "response", "status": "in_progress", "error": None}
_RESPONSE_USAGE: Final = {
    "input_tokens": 11, "input_tokens_details": {"cached_tokens": 8, "cached_tokens_per_turn": []},
    "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 14,
}  # fmt: skip
TYPED_BEGUN: Final = b"".join((
    typed("response.created", sequence_number=0, response=_RESPONSE),
    typed("response.in_progress", sequence_number=1, response=_RESPONSE),
    typed("response.output_item.added", sequence_number=2, output_index=0, item={"type": "message"}),
    *(typed("response.output_text.delta", sequence_number=3 + at, delta=text) for at, text in enumerate(TEXTS)),
))  # fmt: skip


def typed_end(kind: str = "response.completed", **response: Any) -> bytes:
    """The last event of a response."""
    status = kind.removeprefix("response.")
    tools = [{"usage": {"type": "x"}}]  # a client's own words, not a count
    body = {**_RESPONSE, "status": status, "tools": tools, **response, "usage": _RESPONSE_USAGE, "user": None}
    return typed(kind, sequence_number=8, response=body)


TYPED: Final = TYPED_BEGUN + typed_end()

_MESSAGE: Final = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
ANTHROPIC_BEGUN: Final = b"".join((
    typed("message_start", message={**_MESSAGE, "usage": {"input_tokens": 2, "cache_read_input_tokens": 8,
                                                          "cache_creation_input_tokens": 1, "output_tokens": 0}}),
    typed("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    typed("ping"),
    *(typed("content_block_delta", index=0, delta={"type": "text_delta", "text": text}) for text in TEXTS),
    typed("content_block_stop", index=0),
))  # fmt: skip
ANTHROPIC: Final = b"".join((
    ANTHROPIC_BEGUN,
    typed("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3}),
    typed("message_stop"),
))  # fmt: skip

COUNTED: Final = {"input_tokens": 11, "output_tokens": 3, "total_tokens": 14, "cached_tokens": 8}
GOOD: Final = {  # kind of stream, bytes, report
    "chat": ("data_done", CHAT, {"terminal": True}),
    "chat with usage": ("data_done", CHAT_WITH_USAGE, COUNTED | {"terminal": True}),
    "responses": ("typed", TYPED, COUNTED | {"terminal": True}),
    "incomplete response": ("typed", TYPED_BEGUN + typed_end("response.incomplete"), COUNTED | {"terminal": True}),
    "messages": ("anthropic", ANTHROPIC, COUNTED | {"terminal": True}),
}
BEGUN: Final = {"data_done": CHUNKS, "transcript": CHUNKS, "typed": TYPED_BEGUN, "anthropic": ANTHROPIC_BEGUN}
