"""What chat and text completions share: an answer with choices, how it is given, and how its chunks are streamed."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import partial
from json.encoder import encode_basestring
from typing import Any, ClassVar, Final, Protocol, TypeVar

from aibrix_extproc.simulator.engine import Engine, Job, Ticket
from aibrix_extproc.simulator.errors import dump
from aibrix_extproc.simulator.models import Model
from aibrix_extproc.simulator.requests import Sampling
from aibrix_extproc.simulator.sampling import load_headers
from aibrix_extproc.simulator.script import Script
from aibrix_extproc.simulator.usage import stream_usage
from aibrix_extproc.simulator.wire import Answer, Call, EventStream, json_reply

DONE: Final = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoicesAnswer:
    """Everything about an answer except for its time."""

    kind: ClassVar[str]
    """The object that chunks say they are."""

    body: Sampling
    model: Model
    response_id: str
    created: int
    scripts: tuple[Script, ...]
    job: Job
    detailed: bool
    """Whether usage includes cached tokens."""
    fingerprint: str

    def head(self) -> dict[str, Any]:
        """What chunks begin with."""
        return {"id": self.response_id, "object": self.kind, "created": self.created, "model": self.model.name}


class Frame(Protocol):
    """Writes the chunks of one choice; what stands around a token is built once, so that a token costs one join."""

    index: int
    finished: bool

    def opening(self) -> bytes:
        """What comes before the first token."""
        ...

    def tokens(self, start: int, end: int) -> list[bytes]:
        """The chunks of some tokens; the one of the last token carries the finish reason, as in vLLM."""
        ...

    def finish(self, reason: str) -> bytes:
        """A finish reason without a token: of an empty answer or one that was cut off."""
        ...


AnswerT = TypeVar("AnswerT", bound=ChoicesAnswer)


async def give(
    call: Call,
    answer: AnswerT,
    frame: Callable[[AnswerT, int, bool], Frame],
    whole: Callable[[AnswerT, Ticket], dict[str, Any]],
) -> Answer:
    """Let the engine work on an answer, and give it as events or whole, as the request wants it."""
    engine, params = call.engine, answer.body.kv_transfer_params
    if params is not None:
        taken_over = await engine.transfers.take_over(params, answer.job.prompt_tokens)
        answer = replace(answer, job=replace(answer.job, taken_over=taken_over))
    ticket = engine.enter(answer.job, answer.response_id)
    if answer.body.stream:
        return EventStream(_stream(engine, answer, ticket, frame), partial(engine.release, ticket))
    await engine.run(ticket)
    page = whole(answer, ticket)
    if params is not None:
        page["kv_transfer_params"] = engine.transfers.offer(params, answer.job.prompt_tokens, ticket.cached_tokens)
    return json_reply(page, load_headers(call))


def event(value: object) -> bytes:
    """One `data:` event."""
    return b"data: " + dump(value) + b"\n\n"


def escaped(piece: str) -> bytes:
    """A token as JSON text."""
    return encode_basestring(piece).encode("utf-8", "replace")


async def _stream(
    engine: Engine, answer: AnswerT, ticket: Ticket, frame: Callable[[AnswerT, int, bool], Frame]
) -> AsyncIterator[bytes]:
    """Openings, tokens, usage if asked for, end; without inter-token time all of it is one item."""
    options = answer.body.stream_options
    with_usage = options is not None and bool(options.include_usage)
    frames = [frame(answer, index, not with_usage) for index in range(len(answer.scripts))]
    pending = [one.opening() for one in frames]
    position = 0
    async for start, end in engine.pace(ticket):
        if answer.job.paced and any(pending):
            yield b"".join(pending)
            pending.clear()
        for one in frames:
            pending += one.tokens(start, end)
        position = end
        if answer.job.paced:
            yield b"".join(pending)
            pending.clear()
    pending += [one.finish(ticket.finish_reason(one.index)) for one in frames if not one.finished]
    if with_usage:
        usage = stream_usage(answer.job, ticket, answer.detailed, position)
        pending.append(event(answer.head() | {"choices": [], "usage": usage, "system_fingerprint": answer.fingerprint}))
    pending.append(DONE)
    yield b"".join(pending)
