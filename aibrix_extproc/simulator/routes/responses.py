"""POST /v1/responses, and what the store remembers of them."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

from aibrix_extproc.simulator.engine import Ticket
from aibrix_extproc.simulator.engine_fields import values_of
from aibrix_extproc.simulator.errors import EngineError, bad_request, not_found
from aibrix_extproc.simulator.json_sample import sample_json
from aibrix_extproc.simulator.prompts import check_length, render_chat
from aibrix_extproc.simulator.ranges import check_ranges
from aibrix_extproc.simulator.reading import read_body
from aibrix_extproc.simulator.requests import ResponsesBody
from aibrix_extproc.simulator.response_store import StoredResponse
from aibrix_extproc.simulator.routes.response_answer import (
    ResponseAnswer,
    conversation,
    new_identity,
    response_events,
)
from aibrix_extproc.simulator.sampling import answer_script, check_temperature, make_job, token_budget
from aibrix_extproc.simulator.script import Bounds
from aibrix_extproc.simulator.wire import Answer, Call, EventStream, json_reply

_NO_STORE: Final = (
    "This vLLM engine does not support `store=True` and therefore does not support the background mode. To enable "
    "these features, set the environment variable `VLLM_ENABLE_RESPONSES_API_STORE=1` when launching the vLLM server."
)


async def create_response(call: Call) -> Answer:
    """Answer one input."""
    engine = call.engine
    answer = _plan(call)
    body = answer.body
    ticket = engine.enter(answer.job, answer.identity.response_id)
    if body.background and not body.stream:
        stored = _keep(call, answer, answer.response("queued", ticket))
        task = call.background.start(_finish(call, answer, ticket, stored))
        stored.cancel = partial(_cancel, call, stored, task.cancel)
        return json_reply(stored.response)
    if body.stream:
        return EventStream(_stream(call, answer, ticket), partial(engine.release, ticket))
    await engine.run(ticket)
    response = answer.response(answer.status(ticket), ticket)
    _keep(call, answer, response)
    return json_reply(response)


async def retrieve_response(call: Call) -> Answer:
    """What has become of a response, or its events once more."""
    stored = _find(call)
    if call.query.get("stream", "").lower() != "true":
        return json_reply(stored.response)
    after = call.query.get("starting_after", "")
    if after and not after.isdigit():
        raise EngineError(400, "Bad Request", "starting_after must be a whole number", "query.starting_after")
    return EventStream(_replay(stored, int(after) + 1 if after else 0))


async def cancel_response(call: Call) -> Answer:
    """End a background response."""
    stored = _find(call)
    if not stored.response["background"]:
        raise bad_request("Cannot cancel a synchronous response.", "response_id")
    if stored.cancel is not None and stored.response["status"] in ("queued", "in_progress"):
        stored.cancel()
    return json_reply(stored.response)


def _plan(call: Call) -> ResponseAnswer:
    options = call.engine.options
    body = read_body(call, ResponsesBody)
    model = call.engine.models.resolve(body.model)
    if body.background and not call.store.enabled:
        raise EngineError(400, "invalid_request_error", _NO_STORE, "background")
    check_temperature(body.temperature, body.top_p, body.max_output_tokens)
    check_ranges(values_of(body))
    history: list[dict[str, Any]] = []
    if body.previous_response_id is not None:
        previous = call.store.get(body.previous_response_id)
        if previous is None:
            raise unknown_response(body.previous_response_id)
        history = previous.messages
    messages = conversation(body, history)
    prompt = render_chat(messages, body.tools or None, options.multimodal, model.name)
    prompt_tokens = check_length(None, prompt, body.max_output_tokens, options.max_model_len)
    budget = token_budget(body.max_output_tokens, prompt_tokens, options)
    tool = _called_function(body, options.auto_tool_choice)
    text = sample_json(tool.get("parameters") or {"type": "object"}) if tool else _formatted_text(body)
    script = answer_script(call, prompt, Bounds(budget), text=text)
    return ResponseAnswer(
        body=body,
        model=model,
        identity=new_identity(body.request_id),
        script=script,
        function=str(tool["name"]) if tool else None,
        messages=tuple(messages),
        max_output_tokens=budget,
        job=make_job(call, model, prompt, prompt_tokens, [script], budget, body.cache_salt or ""),
    )


def unknown_response(response_id: str) -> EngineError:
    """The refusal of an id that the store does not have."""
    return not_found(f"Response with id '{response_id}' not found.", "response_id", "invalid_request_error")


def _called_function(body: ResponsesBody, auto: bool) -> dict[str, Any] | None:
    functions = [tool for tool in body.tools if tool.get("type") == "function" and tool.get("name")]
    if not functions or body.tool_choice == "none":
        return None
    if isinstance(body.tool_choice, dict):
        name = body.tool_choice.get("name")
        return next((tool for tool in functions if tool["name"] == name), functions[0])
    if body.tool_choice == "required":
        return functions[0]
    has_result = isinstance(body.input, list) and any(item.get("type") == "function_call_output" for item in body.input)
    return functions[0] if auto and not has_result else None


def _formatted_text(body: ResponsesBody) -> str | None:
    form = (body.text or {}).get("format") or {}
    if form.get("type") == "json_schema":
        return sample_json(form.get("schema") or {"type": "object"})
    if form.get("type") == "json_object":
        return sample_json({"type": "object", "properties": {"answer": {"type": "string"}}})
    return None


def _keep(call: Call, answer: ResponseAnswer, response: dict[str, Any]) -> StoredResponse:
    stored = StoredResponse(response, answer.next_messages())
    if answer.body.store:
        call.store.put(stored)
    return stored


def _find(call: Call) -> StoredResponse:
    response_id = call.path_values[0]
    stored = call.store.get(response_id)
    if stored is None:
        raise unknown_response(response_id)
    return stored


async def _finish(call: Call, answer: ResponseAnswer, ticket: Ticket, stored: StoredResponse) -> None:
    stored.response["status"] = "in_progress"
    await call.engine.run(ticket)
    stored.response = answer.response(answer.status(ticket), ticket)


def _cancel(call: Call, stored: StoredResponse, cancel: Any) -> None:
    cancel()
    stored.response["status"] = "cancelled"


async def _stream(call: Call, answer: ResponseAnswer, ticket: Ticket) -> AsyncIterator[bytes]:
    stored = _keep(call, answer, answer.response("in_progress", ticket))
    keep = call.store.enabled
    pending: list[bytes] = []
    async for events in response_events(call.engine, answer, ticket):
        if keep:
            stored.events += events
        pending += events
        if answer.job.paced:
            yield b"".join(pending)
            pending.clear()
    # The store must have the end before the client gets it.
    stored.response = answer.response(answer.status(ticket), ticket)
    if pending:
        yield b"".join(pending)


async def _replay(stored: StoredResponse, start: int) -> AsyncIterator[bytes]:
    yield b"".join(stored.events[start:])
