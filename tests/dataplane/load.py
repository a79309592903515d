"""Clients that ask again and again while a test breaks something, and what each of them saw."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import openai

from tests.dataplane.openai_error import assert_openai_error
from tests.waiting import until

MESSAGES = [{"role": "user", "content": "hello"}]
TOKENS = 6
STREAM_TOKENS = 8  # takes most of a second, so that most streams are running at any moment
PACE = {"x-sim-itl-ms": "15", "x-sim-tokens": str(TOKENS)}


class Askable(Protocol):
    """Something that the OpenAI client can ask."""

    def async_client(self) -> openai.AsyncOpenAI: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended for its client."""

    stream: bool
    began: bool = False  # the head of the answer was there
    complete: bool = False
    error: Exception | None = None
    ended_at: float = field(default_factory=time.monotonic)


@dataclass
class Load:
    """A running load; `outcomes` grows in the order in which requests end."""

    outcomes: list[Outcome] = field(default_factory=list)
    stopping: bool = False

    async def more(self, count: int, deadline: float = 60.0) -> None:
        """Wait until so many more requests have ended."""
        wanted = len(self.outcomes) + count
        await until(lambda: len(self.outcomes) >= wanted, f"{count} more requests", seconds=deadline)

    def failed(self, *, stream: bool, began: bool) -> list[Outcome]:
        return [one for one in self.outcomes if one.error and one.stream == stream and one.began == began]

    def assert_nothing_short(self) -> None:
        """Whatever ended without an exception was whole."""
        short = [one for one in self.outcomes if not one.error and not one.complete]
        assert not short, short

    def assert_failures_are_503(self) -> None:
        """Every refusal is OpenAI's JSON with status 503."""
        for outcome in self.outcomes:
            if outcome.error is not None:
                assert isinstance(outcome.error, openai.APIStatusError), outcome
                assert_openai_error(outcome.error, 503)


@contextlib.asynccontextmanager
async def under_load(asked: Askable, clients: int = 32) -> AsyncIterator[Load]:
    """Half of the clients stream; no retries by the SDK. All have ended when the block has."""
    load = Load()
    async with asked.async_client() as client, asyncio.TaskGroup() as tasks:
        for number in range(clients):
            tasks.create_task(_client(client, load, stream=number % 2 == 0))
        try:
            yield load
        finally:
            load.stopping = True


async def _client(client: openai.AsyncOpenAI, load: Load, *, stream: bool) -> None:
    while not load.stopping:
        outcome = await (one_stream(client) if stream else one_answer(client))
        load.outcomes.append(outcome)


async def one_answer(client: openai.AsyncOpenAI, pace: str = PACE["x-sim-itl-ms"], **options: Any) -> Outcome:
    """One request that does not stream."""
    headers = PACE | {"x-sim-itl-ms": pace}
    try:
        answer = await client.chat.completions.create(
            model="chat-m", messages=MESSAGES, extra_headers=headers, **options
        )
    except openai.APIError as error:
        return Outcome(stream=False, error=error)
    return Outcome(stream=False, began=True, complete=answer.usage.completion_tokens == TOKENS)


async def one_stream(
    client: openai.AsyncOpenAI,
    tokens: int = TOKENS,
    pace: str = PACE["x-sim-itl-ms"],
    begun: asyncio.Event | None = None,
) -> Outcome:
    """One stream, read to its end."""
    headers = {"x-sim-itl-ms": pace, "x-sim-tokens": str(tokens)}
    try:
        stream = await client.chat.completions.create(
            model="chat-m", messages=MESSAGES, stream=True, extra_headers=headers
        )
    except openai.APIError as error:
        return Outcome(stream=True, error=error)
    pieces: list[str] = []
    reason = None
    try:
        async for chunk in stream:
            pieces += [chunk.choices[0].delta.content] if chunk.choices[0].delta.content else []
            reason = chunk.choices[0].finish_reason or reason
            if begun is not None and pieces:
                begun.set()
    except openai.APIError as error:
        return Outcome(stream=True, began=True, error=error)
    return Outcome(stream=True, began=True, complete=reason is not None and len(pieces) == tokens)


async def begin_streams(
    client: openai.AsyncOpenAI, tasks: asyncio.TaskGroup, count: int, tokens: int, pace: str
) -> Sequence[asyncio.Task[Outcome]]:
    """So many streams that all have sent their first token."""
    begun = [asyncio.Event() for _ in range(count)]
    running = [tasks.create_task(one_stream(client, tokens, pace, event)) for event in begun]
    async with asyncio.timeout(60):
        for event in begun:
            await event.wait()
    return running
