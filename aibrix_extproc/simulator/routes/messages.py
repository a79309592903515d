"""POST /v1/messages and /count_tokens: Anthropic's API."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from aibrix_extproc.simulator.engine import Job, Ticket
from aibrix_extproc.simulator.engine_fields import values_of
from aibrix_extproc.simulator.errors import dump
from aibrix_extproc.simulator.json_sample import sample
from aibrix_extproc.simulator.models import Model
from aibrix_extproc.simulator.prompts import check_length, render_chat
from aibrix_extproc.simulator.ranges import check_ranges
from aibrix_extproc.simulator.reading import read_body
from aibrix_extproc.simulator.requests import CountTokensBody, MessagesBody
from aibrix_extproc.simulator.sampling import answer_script, check_temperature, make_job, token_budget
from aibrix_extproc.simulator.script import Bounds, Script
from aibrix_extproc.simulator.tokenizer import count_tokens
from aibrix_extproc.simulator.wire import Answer, Call, EventStream, json_reply

_STOP_REASONS: Final = {"stop": "end_turn", "length": "max_tokens", "abort": "end_turn"}


@dataclass(frozen=True, slots=True)
class MessageAnswer:
    """Everything about an answer except for its time."""

    body: MessagesBody
    model: Model
    message_id: str
    script: Script
    tool: str | None
    tool_input: Any
    job: Job

    def message(self, ticket: Ticket) -> dict[str, Any]:
        """The whole message."""
        stop = {} if self.script.stop_reason is None else {"stop_sequence": self.script.stop_reason}
        return {
            "id": self.message_id,
            "type": "message",
            "role": "assistant",
            "content": [self.block(self.script.text, self.tool_input)],
            "model": self.model.name,
            "stop_reason": self.stop_reason(ticket),
            **stop,
            "usage": self.usage(len(self.script.pieces)),
        }

    def opening(self) -> dict[str, Any]:
        """The message as it is when nothing of it has been said."""
        return {
            "id": self.message_id,
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": self.model.name,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": self.job.prompt_tokens, "output_tokens": 0},
        }

    def stop_reason(self, ticket: Ticket) -> str:
        """How the message ended."""
        if self.tool is not None:
            return "tool_use"
        if self.script.stop_reason is not None and not ticket.aborted:
            return "stop_sequence"
        return _STOP_REASONS[ticket.finish_reason(0)]

    def usage(self, generated: int) -> dict[str, Any]:
        """The usage object."""
        return {
            "input_tokens": self.job.prompt_tokens,
            "output_tokens": generated,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        }

    def block(self, text: str, tool_input: Any) -> dict[str, Any]:
        """The only content block."""
        if self.tool is None:
            return {"type": "text", "text": text}
        return {"type": "tool_use", "id": f"toolu_{self.message_id[-24:]}", "name": self.tool, "input": tool_input}


async def create_message(call: Call) -> Answer:
    """Answer one conversation."""
    engine = call.engine
    answer = _plan(call)
    params = answer.body.kv_transfer_params
    if params is not None:
        taken_over = await engine.transfers.take_over(params, answer.job.prompt_tokens)
        answer = replace(answer, job=replace(answer.job, taken_over=taken_over))
    ticket = engine.enter(answer.job, answer.message_id)
    if answer.body.stream:
        return EventStream(_stream(call, answer, ticket), partial(engine.release, ticket))
    await engine.run(ticket)
    page = answer.message(ticket)
    offered = engine.transfers.offer(params, answer.job.prompt_tokens, ticket.cached_tokens)
    if offered is not None:
        page["kv_transfer_params"] = offered
    return json_reply(page)


async def count_message_tokens(call: Call) -> Answer:
    """The length of a conversation."""
    body = read_body(call, CountTokensBody)
    model = call.engine.models.resolve(body.model)
    prompt = _prompt(call, body, model)
    tokens = count_tokens(prompt)
    return json_reply({"input_tokens": tokens, "context_management": {"original_input_tokens": tokens}})


def _plan(call: Call) -> MessageAnswer:
    options = call.engine.options
    body = read_body(call, MessagesBody)
    model = call.engine.models.resolve(body.model)
    check_temperature(body.temperature, body.top_p, None)
    check_ranges(values_of(body))
    prompt = _prompt(call, body, model)
    prompt_tokens = check_length(None, prompt, body.max_tokens, options.max_model_len)
    budget = token_budget(body.max_tokens, prompt_tokens, options)
    tool = _called_tool(body)
    tool_input = sample(tool.get("input_schema"), tool.get("input_schema"), 0) if tool else None
    text = dump(tool_input).decode() if tool else None
    script = answer_script(call, prompt, Bounds(budget, tuple(body.stop_sequences or ())), text=text)
    return MessageAnswer(
        body=body,
        model=model,
        message_id=f"chatcmpl-{call.request_id()}",
        script=script,
        tool=str(tool["name"]) if tool else None,
        tool_input=tool_input,
        job=make_job(call, model, prompt, prompt_tokens, [script], budget, ""),
    )


def _prompt(call: Call, body: MessagesBody | CountTokensBody, model: Model) -> bytes:
    messages = [{"role": "system", "content": body.system}] if body.system else []
    tools = (body.model_extra or {}).get("tools")
    return render_chat([*messages, *body.messages], tools, call.engine.options.multimodal, model.name)


def _called_tool(body: MessagesBody) -> dict[str, Any] | None:
    extra = body.model_extra or {}
    tools, choice = extra.get("tools") or [], extra.get("tool_choice") or {}
    if choice.get("type") == "any" and tools:
        return dict(tools[0])
    if choice.get("type") == "tool":
        return next((dict(tool) for tool in tools if tool.get("name") == choice.get("name")), None)
    return None


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + dump({"type": kind, **fields}) + b"\n\n"


async def _stream(call: Call, answer: MessageAnswer, ticket: Ticket) -> AsyncIterator[bytes]:
    pending = [
        _event("message_start", message=answer.opening()),
        _event("content_block_start", index=0, content_block=answer.block("", {})),
    ]
    kind, key = ("text_delta", "text") if answer.tool is None else ("input_json_delta", "partial_json")
    sent = 0
    async for start, end in call.engine.pace(ticket):
        for piece in answer.script.pieces[start:end]:
            pending.append(_event("content_block_delta", index=0, delta={"type": kind, key: piece}))
        sent = end
        if answer.job.paced:
            yield b"".join(pending)
            pending.clear()
    pending.append(_event("content_block_stop", index=0))
    delta = {"stop_reason": answer.stop_reason(ticket), "stop_sequence": answer.script.stop_reason}
    pending.append(_event("message_delta", delta=delta, usage=answer.usage(sent)))
    pending.append(_event("message_stop"))
    yield b"".join(pending)
