"""POST /v1/completions."""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from aibrix_extproc.simulator.engine import Job, Ticket
from aibrix_extproc.simulator.errors import bad_request, bad_value, dump
from aibrix_extproc.simulator.logprobs import completion_logprobs
from aibrix_extproc.simulator.models import Model
from aibrix_extproc.simulator.prompts import check_length, prompt_tokens_of, render_prompt, split_prompts
from aibrix_extproc.simulator.reading import read_body
from aibrix_extproc.simulator.requests import CompletionBody
from aibrix_extproc.simulator.routes.chat import formatted_text
from aibrix_extproc.simulator.routes.chat_stream import DONE, event
from aibrix_extproc.simulator.sampling import (
    answer_script,
    check_sampling,
    load_headers,
    make_job,
    stops_of,
    token_budget,
)
from aibrix_extproc.simulator.script import Bounds, Script
from aibrix_extproc.simulator.wire import Answer, Call, EventStream, json_reply


@dataclass(frozen=True, slots=True)
class CompletionAnswer:
    """Everything about an answer except for its time; choices of all prompts in one row."""

    body: CompletionBody
    model: Model
    response_id: str
    created: int
    scripts: tuple[Script, ...]
    echoes: tuple[str, ...]
    """What stands before each choice's tokens."""
    job: Job
    show_cached: bool

    def head(self) -> dict[str, Any]:
        """What bodies and chunks begin with."""
        return {
            "id": self.response_id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model.name,
        }

    def usage(self, ticket: Ticket) -> dict[str, Any]:
        """The usage object."""
        generated = sum(self.job.lengths)
        return {
            "prompt_tokens": self.job.prompt_tokens,
            "total_tokens": self.job.prompt_tokens + generated,
            "completion_tokens": generated,
            "prompt_tokens_details": {"cached_tokens": ticket.cached_tokens} if self.show_cached else None,
        }


async def create_completion(call: Call) -> Answer:
    """Continue one text or several."""
    engine = call.engine
    answer = _plan(call)
    ticket = engine.enter(answer.job)
    if answer.body.stream:
        return EventStream(_stream(call, answer, ticket), partial(engine.release, ticket))
    await engine.run(ticket)
    choices = [_choice(answer, ticket, index) for index in range(len(answer.scripts))]
    body = answer.head() | {
        "choices": choices,
        "service_tier": None,
        "system_fingerprint": None,
        "usage": answer.usage(ticket),
        "kv_transfer_params": None,
    }
    return json_reply(body, load_headers(call))


def _plan(call: Call) -> CompletionAnswer:
    options = call.engine.options
    body = read_body(call, CompletionBody)
    model = call.engine.models.resolve(body.model)
    check_sampling(body, body.max_tokens)
    if body.suffix is not None:
        raise bad_request("suffix is not currently supported", "suffix")
    if body.logprobs is not None and not 0 <= body.logprobs <= 20:
        raise bad_value("logprobs", body.logprobs, "`logprobs` must be between 0 and 20.")
    prompts = split_prompts(body.prompt)
    if not prompts or not all(prompts):
        raise bad_request("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
    scripts: list[Script] = []
    echoes: list[str] = []
    texts: list[bytes] = []
    tokens = 0
    for prompt in prompts:
        data = render_prompt(prompt)
        count = prompt_tokens_of(prompt, data)
        check_length(data, count, body.max_tokens, options.max_model_len)
        tokens += count
        texts.append(data)
        budget = token_budget(body.max_tokens, count, options)
        bounds = Bounds(budget, stops_of(body), body.include_stop_str_in_output, body.min_tokens)
        for choice in range(body.n or 1):
            text = formatted_text(body.response_format)
            scripts.append(answer_script(call, data, bounds, choice, body.seed, text, body.ignore_eos))
            echoes.append(data.decode("utf-8", "replace") if body.echo else "")
    return CompletionAnswer(
        body=body,
        model=model,
        response_id=f"cmpl-{call.request_id()}",
        created=int(time.time()),
        scripts=tuple(scripts),
        echoes=tuple(echoes),
        job=make_job(call, model, b"".join(texts), tokens, scripts, body.max_tokens or 0, body.cache_salt or ""),
        show_cached=options.prompt_tokens_details,
    )


def _choice(answer: CompletionAnswer, ticket: Ticket, index: int) -> dict[str, Any]:
    script, echo, top = answer.scripts[index], answer.echoes[index], answer.body.logprobs
    return {
        "index": index,
        "text": echo + script.text,
        "logprobs": None if top is None else completion_logprobs(script.pieces, top, len(echo)),
        "finish_reason": ticket.finish_reason(index),
        "stop_reason": script.stop_reason,
        "token_ids": None,
        "prompt_logprobs": None,
        "prompt_token_ids": None,
    }


async def _stream(call: Call, answer: CompletionAnswer, ticket: Ticket) -> AsyncIterator[bytes]:
    head = b"data: " + dump(answer.head())[:-1] + b',"choices":['
    paced = bool(answer.job.itl_seconds or answer.job.tokens_per_write)
    pending = [_chunk(head, index, echo) for index, echo in enumerate(answer.echoes) if echo]
    async for start, end in call.engine.pace(ticket):
        for index in range(len(answer.scripts)):
            pending += _tokens(head, answer, index, start, end)
        if paced:
            yield b"".join(pending)
            pending.clear()
    for index, script in enumerate(answer.scripts):
        pending.append(_chunk(head, index, "", ticket.finish_reason(index), script.stop_reason))
    options = answer.body.stream_options
    if options is not None and options.include_usage:
        pending.append(event(answer.head() | {"choices": [], "usage": answer.usage(ticket)}))
    pending.append(DONE)
    yield b"".join(pending)


def _tokens(head: bytes, answer: CompletionAnswer, index: int, start: int, end: int) -> list[bytes]:
    pieces, top = answer.scripts[index].pieces, answer.body.logprobs
    if top is not None:
        offset = len(answer.echoes[index]) + len("".join(pieces[:start]))
        chunks = []
        for piece in pieces[start:end]:
            chunks.append(_chunk(head, index, piece, logprobs=completion_logprobs([piece], top, offset)))
            offset += len(piece)
        return chunks
    before = head + b'{"index":%d,"text":' % index
    after = b',"logprobs":null,"finish_reason":null,"stop_reason":null,"token_ids":null}]}\n\n'
    return [
        before + json.dumps(piece, ensure_ascii=False).encode("utf-8", "replace") + after for piece in pieces[start:end]
    ]


def _chunk(
    head: bytes,
    index: int,
    text: str,
    finish_reason: str | None = None,
    stop_reason: str | None = None,
    logprobs: dict[str, Any] | None = None,
) -> bytes:
    choice = {
        "index": index,
        "text": text,
        "logprobs": logprobs,
        "finish_reason": finish_reason,
        "stop_reason": stop_reason,
        "token_ids": None,
    }
    return head + dump(choice) + b"]}\n\n"
