"""POST /v1/completions."""

import time
from dataclasses import dataclass
from typing import Any

from aibrix_extproc.simulator.engine import Ticket
from aibrix_extproc.simulator.errors import bad_parameter, bad_request, dump
from aibrix_extproc.simulator.logprobs import completion_logprobs, echoed_logprobs
from aibrix_extproc.simulator.prompts import check_length, render_prompt, split_prompts
from aibrix_extproc.simulator.reading import read_body
from aibrix_extproc.simulator.requests import CompletionBody
from aibrix_extproc.simulator.routes.chat import formatted_text
from aibrix_extproc.simulator.routes.choices import ChoicesAnswer, escaped, give
from aibrix_extproc.simulator.sampling import (
    answer_script,
    check_logprobs,
    check_sampling,
    make_job,
    stops_of,
    token_budget,
)
from aibrix_extproc.simulator.script import Bounds, Script
from aibrix_extproc.simulator.tokenizer import decode_one, token_texts
from aibrix_extproc.simulator.usage import whole_usage
from aibrix_extproc.simulator.wire import Answer, Call


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionAnswer(ChoicesAnswer):
    """What text completions have of their own; choices of all prompts in one row."""

    kind = "text_completion"

    body: CompletionBody
    echoes: tuple[tuple[str, ...], ...]
    """The prompt's tokens before each choice's own; none without `echo`."""

    @property
    def echoes_only(self) -> bool:
        """Whether nothing but the prompt is wanted; engines generate one token all the same."""
        return bool(self.body.echo) and self.body.max_tokens == 0


async def create_completion(call: Call) -> Answer:
    """Continue one text or several."""
    return await give(call, _plan(call), CompletionFrame, _completion)


def _plan(call: Call) -> CompletionAnswer:
    options = call.engine.options
    body = read_body(call, CompletionBody)
    model = call.engine.models.resolve(body.model)
    max_tokens = 1 if body.echo and body.max_tokens == 0 else body.max_tokens
    check_sampling(body, max_tokens)
    if body.suffix is not None:
        raise bad_request("suffix is only supported for models with FIM completion rendering", "suffix")
    check_logprobs(body.logprobs)
    prompts = split_prompts(body.prompt)
    if body.prompt == []:
        raise bad_request("You must pass at least one prompt")
    if not prompts or not all(prompts):
        raise bad_parameter("prompt", "Either prompt or prompt_embeds must be provided and non-empty.")
    scripts: list[Script] = []
    echoes: list[tuple[str, ...]] = []
    texts: list[bytes] = []
    tokens = 0
    for prompt in prompts:
        data = render_prompt(prompt)
        count = check_length(prompt, data, max_tokens, options.max_model_len)
        tokens += count
        texts.append(data)
        budget = token_budget(max_tokens, count, options)
        echo = _prompt_tokens(prompt, data) if body.echo else ()
        bounds = Bounds(budget, stops_of(body), body.include_stop_str_in_output, body.min_tokens)
        for choice in range(body.n or 1):
            text = formatted_text(body.response_format)
            scripts.append(answer_script(call, data, bounds, choice, body.seed, text, body.ignore_eos))
            echoes.append(echo)
    return CompletionAnswer(
        body=body,
        model=model,
        response_id=f"cmpl-{call.request_id()}",
        created=int(time.time()),
        scripts=tuple(scripts),
        echoes=tuple(echoes),
        job=make_job(call, model, b"".join(texts), tokens, scripts, max_tokens or 0, body.cache_salt or ""),
        detailed=options.prompt_tokens_details,
        fingerprint=options.fingerprint,
    )


def _prompt_tokens(prompt: str | list[int], data: bytes) -> tuple[str, ...]:
    if isinstance(prompt, str):
        return tuple(token_texts(data))
    return tuple(decode_one(token).decode("utf-8", "replace") for token in prompt)


def _completion(answer: CompletionAnswer, ticket: Ticket) -> dict[str, Any]:
    """The body of an answer that does not stream."""
    return answer.head() | {
        "choices": [_choice(answer, ticket, index) for index in range(len(answer.scripts))],
        "service_tier": None,
        "system_fingerprint": answer.fingerprint,
        "usage": whole_usage(answer.job, ticket, answer.detailed, created_cache_tokens=None),
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


def _choice(answer: CompletionAnswer, ticket: Ticket, index: int) -> dict[str, Any]:
    script, echo, top = answer.scripts[index], answer.echoes[index], answer.body.logprobs
    pieces = () if answer.echoes_only else script.pieces
    return {
        "index": index,
        "text": "".join(echo) + ("" if answer.echoes_only else script.text),
        "logprobs": None if top is None else echoed_logprobs(echo, pieces, top),
        "finish_reason": ticket.finish_reason(index),
        "stop_reason": script.stop_reason,
        "token_ids": None,
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "routed_experts": None,
    }


class CompletionFrame:
    """Writes the chunks of one choice."""

    def __init__(self, answer: CompletionAnswer, index: int, ends_stream: bool) -> None:
        self.index = index
        self.finished = False
        self._echo = answer.echoes[index]
        self._echoes_only = answer.echoes_only
        self._script = answer.scripts[index]
        self._top = answer.body.logprobs
        self._fingerprint = answer.fingerprint if ends_stream else None
        self._head = b"data: " + dump(answer.head())[:-1] + b',"choices":['

    def opening(self) -> bytes:
        """The prompt, if it is to be echoed."""
        if not self._echo:
            return b""
        logprobs = None if self._top is None else echoed_logprobs(self._echo, (), self._top)
        return self._chunk("".join(self._echo), logprobs=logprobs)

    def tokens(self, start: int, end: int) -> list[bytes]:
        """The chunks of some tokens; the one of the last token carries the finish reason, as in vLLM."""
        if self._echoes_only:
            return []
        pieces = self._script.pieces
        last = len(pieces) - 1
        stop = min(end, last)
        if self._top is not None:
            chunks = [self._chunk(pieces[at], logprobs=self._logprobs(at)) for at in range(start, stop)]
        else:
            before = self._head + b'{"index":%d,"text":' % self.index
            after = (
                b',"logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,'
                b'"token_ids":null}]}\n\n'
            )
            chunks = [before + escaped(piece) + after for piece in pieces[start:stop]]
        if start <= last < end:
            self.finished = True
            chunks.append(self._chunk(pieces[last], self._script.finish_reason, self._logprobs(last)))
        return chunks

    def finish(self, reason: str) -> bytes:
        """A finish reason without a token: of an empty answer or one that was cut off."""
        return self._chunk("", reason)

    def _chunk(self, text: str, finish_reason: str | None = None, logprobs: dict[str, Any] | None = None) -> bytes:
        choice = {
            "index": self.index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
            "stop_reason": self._script.stop_reason if finish_reason == "stop" else None,
            "prompt_token_ids": None,
            "token_ids": None,
        }
        end = b"]}\n\n"
        if finish_reason is not None and self._fingerprint is not None:
            end = b'],"system_fingerprint":' + dump(self._fingerprint) + b"}\n\n"
        return self._head + dump(choice) + end

    def _logprobs(self, position: int) -> dict[str, Any] | None:
        if self._top is None:
            return None
        offset = sum(map(len, self._echo)) + len("".join(self._script.pieces[:position]))
        return completion_logprobs([self._script.pieces[position]], self._top, offset)
