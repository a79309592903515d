"""The body and the events of one answer of the Responses API.

Streams always end with `response.completed`, even when the status is `incomplete`, and never with [DONE]:
both as in vLLM and unlike OpenAI.
"""

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from aibrix_extproc.simulator.engine import Engine, Job, Ticket
from aibrix_extproc.simulator.errors import dump
from aibrix_extproc.simulator.models import Model
from aibrix_extproc.simulator.requests import ResponsesBody
from aibrix_extproc.simulator.script import Script


@dataclass(frozen=True, slots=True)
class Identity:
    """The ids of one response and its only item."""

    response_id: str
    item_id: str
    call_id: str
    created_at: int


def new_identity(asked: str | None) -> Identity:
    """Fresh ids, the response's own if the request names none; X-Request-Id has no part in them."""
    made = asked if asked is not None else f"resp_{uuid4().hex[:16]}"
    return Identity(made, f"msg_{uuid4().hex[:16]}", f"call_{uuid4().hex[:16]}", int(time.time()))


@dataclass(frozen=True, slots=True)
class ResponseAnswer:
    """Everything about an answer except for its time."""

    body: ResponsesBody
    model: Model
    identity: Identity
    script: Script
    function: str | None
    """The function that is called instead of speaking."""
    messages: tuple[dict[str, Any], ...]
    max_output_tokens: int
    job: Job

    def status(self, ticket: Ticket) -> str:
        """How the response ended."""
        if ticket.aborted:
            return "cancelled"
        return "incomplete" if self.script.finish_reason == "length" else "completed"

    def response(self, status: str, ticket: Ticket) -> dict[str, Any]:
        """The response object."""
        body = self.body
        over = status not in ("queued", "in_progress")
        reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": self.identity.response_id,
            "created_at": self.identity.created_at,
            "incomplete_details": reason,
            "instructions": body.instructions,
            "metadata": body.metadata,
            "model": self.model.name,
            "object": "response",
            "output": [self.item(self.script.text, "completed")] if over else [],
            "parallel_tool_calls": body.parallel_tool_calls,
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "tool_choice": body.tool_choice if body.tools else "none",
            "tools": [{"strict": None, **tool} if tool.get("type") == "function" else tool for tool in body.tools],
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "background": bool(body.background),
            "max_output_tokens": self.max_output_tokens,
            "max_tool_calls": None,
            "previous_response_id": body.previous_response_id,
            "prompt": None,
            "reasoning": body.reasoning,
            "service_tier": body.service_tier,
            "status": status,
            "text": body.text,
            "top_logprobs": body.top_logprobs,
            "truncation": body.truncation,
            "usage": self.usage(ticket) if over else None,
            "user": body.user,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "input_messages": None,
            "output_messages": None,
        }

    def usage(self, ticket: Ticket) -> dict[str, Any]:
        """The usage object, with vLLM's extras."""
        generated = len(self.script.pieces)
        return {
            "input_tokens": self.job.prompt_tokens,
            "input_tokens_details": {
                "cached_tokens": ticket.cached_tokens,
                "cache_write_tokens": 0,
                "input_tokens_per_turn": [],
                "cached_tokens_per_turn": [],
            },
            "output_tokens": generated,
            "output_tokens_details": {
                "reasoning_tokens": 0,
                "tool_output_tokens": 0,
                "output_tokens_per_turn": [],
                "tool_output_tokens_per_turn": [],
            },
            "total_tokens": self.job.prompt_tokens + generated,
        }

    def item(self, text: str, status: str) -> dict[str, Any]:
        """The only output item: a message or a function call."""
        if self.function is not None:
            return {
                "arguments": text,
                "call_id": self.identity.call_id,
                "name": self.function,
                "type": "function_call",
                "id": self.identity.item_id,
                "status": status,
            }
        content = [self.part(text)] if status == "completed" else []
        return {
            "id": self.identity.item_id,
            "content": content,
            "role": "assistant",
            "status": status,
            "type": "message",
            "phase": None,
        }

    def part(self, text: str) -> dict[str, Any]:
        """The only content part of a message."""
        return {"annotations": [], "text": text, "type": "output_text", "logprobs": None}

    def next_messages(self) -> list[dict[str, Any]]:
        """The conversation that a next turn goes on with."""
        return [*self.messages, {"role": "assistant", "content": self.script.text}]


def conversation(body: ResponsesBody, history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages of a request: instructions, what was said before, the input."""
    messages: list[dict[str, Any]] = []
    if body.instructions:
        messages.append({"role": "system", "content": body.instructions})
    messages += [message for message in history if message.get("role") != "system"]
    if isinstance(body.input, str):
        return [*messages, {"role": "user", "content": body.input}]
    for item in body.input:
        if item.get("type") == "function_call_output":
            messages.append({"role": "tool", "content": item.get("output")})
        elif item.get("type") == "function_call":
            messages.append({"role": "assistant", "content": str(item.get("arguments"))})
        else:
            messages.append({"role": item.get("role", "user"), "content": item.get("content")})
    return messages


class EventWriter:
    """Numbers the events of one stream."""

    def __init__(self) -> None:
        self._number = 0

    def write(self, kind: str, **fields: Any) -> bytes:
        """One typed event."""
        body = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return f"event: {kind}\ndata: ".encode() + dump(body) + b"\n\n"


async def response_events(engine: Engine, answer: ResponseAnswer, ticket: Ticket) -> AsyncIterator[list[bytes]]:
    """The events of a response, in groups that are sent together."""
    writer = EventWriter()
    yield list(_opening(writer, answer, ticket))
    where = {"item_id": answer.identity.item_id, "output_index": 0}
    if answer.function is None:
        kind = "response.output_text.delta"
        where = {**where, "content_index": 0, "logprobs": []}
    else:
        kind = "response.function_call_arguments.delta"
    async for start, end in engine.pace(ticket):
        yield [writer.write(kind, delta=piece, **where) for piece in answer.script.pieces[start:end]]
    yield list(_closing(writer, answer, ticket))


def _opening(writer: EventWriter, answer: ResponseAnswer, ticket: Ticket) -> Iterator[bytes]:
    response = answer.response("in_progress", ticket)
    yield writer.write("response.created", response=response)
    yield writer.write("response.in_progress", response=response)
    yield writer.write("response.output_item.added", item=answer.item("", "in_progress"), output_index=0)
    if answer.function is None:
        yield writer.write(
            "response.content_part.added",
            content_index=0,
            item_id=answer.identity.item_id,
            output_index=0,
            part=answer.part("") | {"logprobs": []},
        )


def _closing(writer: EventWriter, answer: ResponseAnswer, ticket: Ticket) -> Iterator[bytes]:
    text, item_id = answer.script.text, answer.identity.item_id
    if answer.function is None:
        yield writer.write(
            "response.output_text.done", content_index=0, item_id=item_id, output_index=0, logprobs=[], text=text
        )
        yield writer.write(
            "response.content_part.done", content_index=0, item_id=item_id, output_index=0, part=answer.part(text)
        )
    else:
        yield writer.write(
            "response.function_call_arguments.done",
            arguments=text,
            item_id=item_id,
            name=answer.function,
            output_index=0,
        )
    yield writer.write("response.output_item.done", item=answer.item(text, "completed"), output_index=0)
    yield writer.write("response.completed", response=answer.response(answer.status(ticket), ticket))
