"""POST /v1/chat/completions."""

import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from aibrix_extproc.simulator.engine import Ticket
from aibrix_extproc.simulator.errors import bad_parameter, bad_request
from aibrix_extproc.simulator.json_sample import sample_json
from aibrix_extproc.simulator.logprobs import chat_logprobs
from aibrix_extproc.simulator.options import SimulatorOptions
from aibrix_extproc.simulator.prompts import check_length, render_chat
from aibrix_extproc.simulator.reading import read_body, validation_error
from aibrix_extproc.simulator.requests import ChatBody, NamedTool, ResponseFormat, Tool
from aibrix_extproc.simulator.routes.chat_stream import ChatFrame
from aibrix_extproc.simulator.routes.choices import ChoicesAnswer, give
from aibrix_extproc.simulator.sampling import (
    answer_script,
    check_logprobs,
    check_sampling,
    make_job,
    stops_of,
    token_budget,
)
from aibrix_extproc.simulator.script import Bounds, Script
from aibrix_extproc.simulator.usage import whole_usage
from aibrix_extproc.simulator.wire import Answer, Call


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer(ChoicesAnswer):
    """What chat has of its own."""

    kind = "chat.completion.chunk"

    body: ChatBody
    tool: str | None
    """The function that is called instead of speaking."""
    tool_call_id: str
    reasoning_tokens: int

    def call_id(self, index: int) -> str:
        """The id of a choice's tool call."""
        return self.tool_call_id if index == 0 else f"{self.tool_call_id}-{index}"


async def create_chat_completion(call: Call) -> Answer:
    """Answer one conversation."""
    return await give(call, _plan(call), ChatFrame, _completion)


def _plan(call: Call) -> ChatAnswer:
    """Check a request and decide the whole answer."""
    options = call.engine.options
    body = read_body(call, ChatBody)
    _check_form(body)
    model = call.engine.models.resolve(body.model)
    tool = _called_tool(body, options)
    requested = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    check_sampling(body, requested)
    tools = [entry.model_dump() for entry in body.tools] if body.tools else None
    prompt = render_chat(body.messages, tools, options.multimodal, model.name)
    prompt_tokens = check_length(None, prompt, requested, options.max_model_len)
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
        detailed=options.prompt_tokens_details,
        fingerprint=options.fingerprint,
    )


def _completion(answer: ChatAnswer, ticket: Ticket) -> dict[str, Any]:
    """The body of an answer that does not stream."""
    return {
        "id": answer.response_id,
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.model.name,
        "choices": [_choice(answer, ticket, index) for index in range(len(answer.scripts))],
        "service_tier": None,
        "system_fingerprint": answer.fingerprint,
        "usage": whole_usage(answer.job, ticket, answer.detailed),
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "prompt_text": None,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
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
        "reasoning": "".join(script.pieces[: answer.reasoning_tokens]) or None,
    }
    if answer.tool is not None:
        function = {"name": answer.tool, "arguments": script.text}
        call = {"id": answer.call_id(index), "type": "function", "function": function}
        message |= {"content": None, "tool_calls": [call]}
    logprobs = chat_logprobs(script.pieces, answer.body.top_logprobs or 0) if answer.body.logprobs else None
    return {
        "index": index,
        "message": message,
        "logprobs": logprobs,
        "finish_reason": ticket.finish_reason(index),
        "stop_reason": script.stop_reason,
        "token_ids": None,
        "routed_experts": None,
    }


def _check_form(body: ChatBody) -> None:
    for index, message in enumerate(body.messages):
        _check_message(index, message)
    if body.top_logprobs and not body.logprobs:
        raise bad_parameter("top_logprobs", "when using `top_logprobs`, `logprobs` must be set to true.")
    check_logprobs(body.top_logprobs)
    if body.tools == []:
        advice = "Either provide at least one tool or omit the field entirely."
        raise bad_parameter("tools", f"`tools` must not be an empty array. {advice}")
    if body.tool_choice not in (None, "none", "auto") and not body.tools:
        raise bad_parameter("tool_choice", "When using `tool_choice`, `tools` must be set.")
    if isinstance(body.tool_choice, NamedTool) and _named(body, body.tool_choice) is None:
        raise bad_parameter(
            "tool_choice", "The tool specified in `tool_choice` does not match any of the specified `tools`"
        )


def _check_message(index: int, message: dict[str, Any]) -> None:
    """A message needs a role, and text or parts; vLLM tries eight kinds of message and dumps the failures of all."""
    loc = ("body", "messages", index, "ChatCompletionDeveloperMessageParam")
    if not isinstance(message.get("role"), str):
        raise validation_error([{"type": "missing", "loc": (*loc, "role"), "msg": "Field required", "input": message}])
    content = message.get("content")
    if content is not None and not isinstance(content, str | list):
        text = "Input should be a valid string"
        raise validation_error([{"type": "string_type", "loc": (*loc, "content"), "msg": text, "input": content}])


def _called_tool(body: ChatBody, options: SimulatorOptions) -> Tool | None:
    """The tool that the answer calls, by the request's tool choice."""
    choice = body.tool_choice
    if not body.tools or choice == "none":
        return None
    if choice in (None, "auto"):
        if not (options.auto_tool_choice and options.tool_call_parser):
            raise bad_request('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
        # After a tool's result the simulated model answers with text, so that agents come to an end.
        last = body.messages[-1] if body.messages else {}
        return body.tools[0] if last.get("role") in ("user", "developer", "system") else None
    if not options.tool_call_parser:
        shown = f'function "{choice.function.name}"' if isinstance(choice, NamedTool) else f'"{choice}"'
        raise bad_request(f"tool_choice={shown} requires --tool-call-parser to be set")
    return _named(body, choice) if isinstance(choice, NamedTool) else body.tools[0]


def _named(body: ChatBody, choice: NamedTool) -> Tool | None:
    return next((tool for tool in body.tools or () if tool.function.name == choice.function.name), None)


def _arguments(tool: Tool) -> str:
    return sample_json(tool.function.parameters or {"type": "object"})
