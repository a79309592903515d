"""POST /v1/chat/completions."""

import time
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

from aibrix_extproc.simulator.engine import Job, Ticket
from aibrix_extproc.simulator.errors import EngineError, bad_request, bad_value
from aibrix_extproc.simulator.json_sample import sample_json
from aibrix_extproc.simulator.logprobs import chat_logprobs
from aibrix_extproc.simulator.models import Model
from aibrix_extproc.simulator.prompts import check_length, render_chat
from aibrix_extproc.simulator.reading import read_body
from aibrix_extproc.simulator.requests import ChatBody, NamedTool, ResponseFormat, Tool
from aibrix_extproc.simulator.routes.chat_stream import stream_chat
from aibrix_extproc.simulator.sampling import (
    answer_script,
    check_sampling,
    load_headers,
    make_job,
    stops_of,
    token_budget,
)
from aibrix_extproc.simulator.script import Bounds, Script
from aibrix_extproc.simulator.tokenizer import count_tokens
from aibrix_extproc.simulator.wire import Answer, Call, EventStream, json_reply


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """Everything about an answer except for its time."""

    body: ChatBody
    model: Model
    response_id: str
    created: int
    scripts: tuple[Script, ...]
    tool: str | None
    """The function that is called instead of speaking."""
    tool_call_id: str
    job: Job
    reasoning_tokens: int
    show_cached: bool

    def usage(self, ticket: Ticket) -> dict[str, Any]:
        """The usage object."""
        generated = sum(self.job.lengths)
        details = {"cached_tokens": ticket.cached_tokens} if self.show_cached else None
        return {
            "prompt_tokens": self.job.prompt_tokens,
            "total_tokens": self.job.prompt_tokens + generated,
            "completion_tokens": generated,
            "prompt_tokens_details": details,
        }


async def create_chat_completion(call: Call) -> Answer:
    """Answer one conversation."""
    engine = call.engine
    answer = plan_chat(call)
    ticket = engine.enter(answer.job)
    if answer.body.stream:
        return EventStream(stream_chat(engine, answer, ticket), partial(engine.release, ticket))
    await engine.run(ticket)
    return json_reply(chat_completion(answer, ticket), load_headers(call))


def plan_chat(call: Call) -> ChatAnswer:
    """Check a request and decide the whole answer."""
    options = call.engine.options
    body = read_body(call, ChatBody)
    _check_form(body)
    model = call.engine.models.resolve(body.model)
    tool = _called_tool(body, options.auto_tool_choice)
    requested = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    check_sampling(body, requested)
    tools = [entry.model_dump() for entry in body.tools] if body.tools else None
    prompt = render_chat(body.messages, tools, options.multimodal, model.name)
    prompt_tokens = count_tokens(prompt)
    check_length(prompt, prompt_tokens, requested, options.max_model_len)
    budget = token_budget(requested, prompt_tokens, options)
    text = _arguments(tool) if tool else formatted_text(body.response_format)
    bounds = Bounds(
        budget, () if text is not None else stops_of(body), body.include_stop_str_in_output, body.min_tokens
    )
    scripts = tuple(
        answer_script(call, prompt, bounds, choice, body.seed, text, body.ignore_eos) for choice in range(body.n or 1)
    )
    if tool is not None and body.tool_choice in ("auto", "required", None):
        scripts = tuple(
            Script(script.pieces, "tool_calls" if script.finish_reason == "stop" else script.finish_reason)
            for script in scripts
        )
    return ChatAnswer(
        body=body,
        model=model,
        response_id=f"chatcmpl-{call.request_id()}",
        created=int(time.time()),
        scripts=scripts,
        tool=tool.function.name if tool else None,
        tool_call_id=f"chatcmpl-tool-{uuid4().hex[:16]}",
        job=make_job(call, model, prompt, prompt_tokens, scripts, budget, body.cache_salt or ""),
        reasoning_tokens=0 if tool else call.pace.reasoning_tokens,
        show_cached=options.prompt_tokens_details,
    )


def chat_completion(answer: ChatAnswer, ticket: Ticket) -> dict[str, Any]:
    """The body of an answer that does not stream."""
    return {
        "id": answer.response_id,
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.model.name,
        "choices": [_choice(answer, ticket, index) for index in range(len(answer.scripts))],
        "service_tier": None,
        "system_fingerprint": None,
        "usage": answer.usage(ticket),
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "kv_transfer_params": None,
    }


def formatted_text(form: ResponseFormat | None) -> str | None:
    """The text that a response format asks for; None if any will do."""
    if form is None or form.type == "text":
        return None
    if form.type == "json_schema":
        return sample_json((form.json_schema or {}).get("schema") or {"type": "object"})
    return sample_json({"type": "object", "properties": {"answer": {"type": "string"}}})


def _choice(answer: ChatAnswer, ticket: Ticket, index: int) -> dict[str, Any]:
    script = answer.scripts[index]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(script.pieces[answer.reasoning_tokens :]),
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "tool_calls": [],
        "reasoning": "".join(script.pieces[: answer.reasoning_tokens]) or None,
    }
    if answer.tool is not None:
        function = {"name": answer.tool, "arguments": script.text}
        call_id = answer.tool_call_id if index == 0 else f"{answer.tool_call_id}-{index}"
        message |= {"content": None, "tool_calls": [{"id": call_id, "type": "function", "function": function}]}
    logprobs = chat_logprobs(script.pieces, answer.body.top_logprobs or 0) if answer.body.logprobs else None
    return {
        "index": index,
        "message": message,
        "logprobs": logprobs,
        "finish_reason": ticket.finish_reason(index),
        "stop_reason": script.stop_reason,
        "token_ids": None,
    }


def _check_form(body: ChatBody) -> None:
    if body.top_logprobs and not body.logprobs:
        raise bad_request("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")
    if body.top_logprobs is not None and body.top_logprobs > 20:
        raise bad_value(
            "top_logprobs", body.top_logprobs, f"Requested sample logprobs of {body.top_logprobs}, greater than 20."
        )


def _called_tool(body: ChatBody, auto: bool) -> Tool | None:
    """The tool that the answer calls, by the request's tool choice."""
    choice = body.tool_choice
    if not body.tools:
        if choice not in (None, "none", "auto"):
            raise EngineError(400, "Bad Request", "When using `tool_choice`, `tools` must be set.", "tool_choice")
        return None
    if choice == "none":
        return None
    if isinstance(choice, NamedTool):
        for tool in body.tools:
            if tool.function.name == choice.function.name:
                return tool
        raise EngineError(
            400,
            "Bad Request",
            "The tool specified in `tool_choice` does not match any of the specified `tools`",
            "tool_choice",
        )
    if choice == "required":
        return body.tools[0]
    if not auto:
        raise bad_request(
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set', "tool_choice"
        )
    # Once it has the tool's result, the simulated model speaks: agents must come to an end.
    last = body.messages[-1] if body.messages else {}
    return body.tools[0] if last.get("role") in ("user", "developer", "system") else None


def _arguments(tool: Tool) -> str:
    return sample_json(tool.function.parameters or {"type": "object"})
