"""The events of a streamed chat completion.

The frame around each token is built once for each choice: a token then costs one escape and one join.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

from aibrix_extproc.simulator.engine import Engine, Ticket
from aibrix_extproc.simulator.errors import dump
from aibrix_extproc.simulator.logprobs import chat_logprobs

if TYPE_CHECKING:
    from aibrix_extproc.simulator.routes.chat import ChatAnswer

DONE: Final = b"data: [DONE]\n\n"


def event(value: object) -> bytes:
    """One `data:` event."""
    return b"data: " + dump(value) + b"\n\n"


async def stream_chat(engine: Engine, answer: ChatAnswer, ticket: Ticket) -> AsyncIterator[bytes]:
    """Role, tokens, finish, usage if asked for, end; without inter-token time all of it is one item."""
    frames = [ChatFrame(answer, index) for index in range(len(answer.scripts))]
    paced = bool(answer.job.itl_seconds or answer.job.tokens_per_write)
    pending = [frame.role() for frame in frames]
    position = 0
    async for start, end in engine.pace(ticket):
        if paced and pending:
            yield b"".join(pending)
            pending.clear()
        for frame in frames:
            pending += frame.tokens(start, end)
        position = end
        if paced:
            yield b"".join(pending)
            pending.clear()
    pending += [frame.finish(ticket.finish_reason(frame.index)) for frame in frames]
    options = answer.body.stream_options
    if options is not None and options.include_usage:
        pending.append(_usage(answer, ticket, position))
    pending.append(DONE)
    yield b"".join(pending)


class ChatFrame:
    """Writes the chunks of one choice."""

    def __init__(self, answer: ChatAnswer, index: int) -> None:
        self.index = index
        self._answer = answer
        self._script = answer.scripts[index]
        head = {
            "id": answer.response_id,
            "object": "chat.completion.chunk",
            "created": answer.created,
            "model": answer.model.name,
        }
        self._head = b"data: " + dump(head)[:-1] + b',"choices":['
        self._top = (answer.body.top_logprobs or 0) if answer.body.logprobs else None
        opening = self._head + b'{"index":%d,"delta":' % index
        closing = b',"logprobs":null,"finish_reason":null,"token_ids":null}]}\n\n'
        if answer.tool is None:
            self._before, self._after = opening + b'{"content":', b"}" + closing
        else:
            self._before = opening + b'{"tool_calls":[{"index":0,"function":{"arguments":'
            self._after = b"}}]}" + closing
        self._before_reasoning, self._after_reasoning = opening + b'{"reasoning":', b"}" + closing

    def role(self) -> bytes:
        """The first chunk; of a tool call also the one with its name."""
        first = self._chunk({"role": "assistant", "content": ""})
        if self._answer.tool is None:
            return first
        call = {
            "id": self._answer.tool_call_id if self.index == 0 else f"{self._answer.tool_call_id}-{self.index}",
            "type": "function",
            "index": 0,
            "function": {"name": self._answer.tool, "arguments": ""},
        }
        return first + self._chunk({"tool_calls": [call]})

    def tokens(self, start: int, end: int) -> list[bytes]:
        """The chunks of some tokens."""
        reasoning = self._answer.reasoning_tokens
        if self._top is not None or start < reasoning:
            return [self._slow_token(position) for position in range(start, min(end, len(self._script.pieces)))]
        before, after = self._before, self._after
        return [
            before + json.dumps(piece, ensure_ascii=False).encode("utf-8", "replace") + after
            for piece in self._script.pieces[start:end]
        ]

    def finish(self, reason: str) -> bytes:
        """The chunk with the finish reason."""
        return self._chunk({"content": ""} if self._answer.tool is None else {}, reason, self._script.stop_reason)

    def _slow_token(self, position: int) -> bytes:
        piece = self._script.pieces[position]
        if self._top is not None:
            return self._chunk({"content": piece}, logprobs=chat_logprobs([piece], self._top))
        text = json.dumps(piece, ensure_ascii=False).encode("utf-8", "replace")
        if position < self._answer.reasoning_tokens:
            return self._before_reasoning + text + self._after_reasoning
        return self._before + text + self._after

    def _chunk(
        self,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        stop_reason: str | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> bytes:
        choice: dict[str, Any] = {
            "index": self.index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        if finish_reason is not None:
            choice["stop_reason"] = stop_reason
        choice["token_ids"] = None
        return self._head + dump(choice) + b"]}\n\n"


def _usage(answer: ChatAnswer, ticket: Ticket, position: int) -> bytes:
    usage = answer.usage(ticket)
    if ticket.aborted:
        generated = sum(min(position, length) for length in answer.job.lengths)
        usage |= {"completion_tokens": generated, "total_tokens": answer.job.prompt_tokens + generated}
    return event(
        {
            "id": answer.response_id,
            "object": "chat.completion.chunk",
            "created": answer.created,
            "model": answer.model.name,
            "choices": [],
            "usage": usage,
        }
    )
