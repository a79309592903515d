"""Sends one line of a batch through Envoy, like a client, and tries again what is worth it."""

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp

from aibrix_extproc.adapters.ledger.work import LeaseLostError
from aibrix_extproc.app.metadata.gates import Gates
from aibrix_extproc.app.metadata.leases import Lease
from aibrix_extproc.core.batches import engine_load
from aibrix_extproc.core.batches.answers import NO_BODY, AnswerBody, read_answer
from aibrix_extproc.core.batches.records import BatchRecord, Usage
from aibrix_extproc.core.batches.request_lines import RequestLine
from aibrix_extproc.core.batches.results import CANCELLED, EXPIRED, Result, answered, not_executed
from aibrix_extproc.core.openai.contract.headers import ENGINE_LOAD
from aibrix_extproc.core.openai.contract.operation_rows import BATCH_OPERATIONS

logger = logging.getLogger(__name__)

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
MAX_FAILURES: Final = 8  # tries that ended in a failure of the engine, before its answer is the line's result
_NOT_BELIEVED: Final = 401  # a line has no key: it is our signature that is refused, and no fault of the line's
_TOO_MUCH: Final = frozenset({429, 503})
_AGAIN: Final = frozenset({_NOT_BELIEVED, 408, 409, 429, 500, 502, 503, 504, 529})
_SECONDS: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?")
_LONGEST_PAUSE: Final = 60.0
_NO_JSON: Final = AnswerBody(NO_BODY, Usage())
# A generation takes as long as it takes; the gateway ends streams that are silent for an hour.
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=3700.0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A line's result, what it cost, and whether it counts as executed."""

    result: Result
    usage: Usage
    executed: bool


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    request_id: str
    body: AnswerBody
    retry_after: float | None
    final: bool  # the server says that another try is of no use


class LineSender:
    """Requests of batches. A line that was refused because there is too much waits as long as its batch may last."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        signed: Callable[[BatchRecord], Mapping[str, str]],
        gates: Gates,
        wall_clock: Callable[[], float],
    ) -> None:
        """`signed` makes the headers that speak for the batch's owner."""
        self._session = session
        self._urls = {path: base_url.rstrip("/") + path for path in BATCH_OPERATIONS}
        self._signed = signed
        self._gates = gates
        self._wall_clock = wall_clock

    async def run(self, batch: BatchRecord, lease: Lease, line: int, request: RequestLine) -> Outcome:
        """The outcome of one line; never raises for what an engine does."""
        result_id = f"batch_req_{batch.id.removeprefix('batch_')}_{line}"
        gate = self._gates.of(request.model)
        failures = tries = 0
        while True:
            async with gate.place(batch.caller):
                ended = self._ended(batch, lease)
                if ended is not None:
                    result = not_executed(line, request.custom_id, ended, result_id=result_id)
                    return Outcome(result, Usage(), executed=False)
                tries += 1
                answer = await self._ask(batch, request)
                if answer is not None and answer.status not in _AGAIN:
                    return self._outcome(line, request, answer, result_id)
                if answer is None or answer.status in _TOO_MUCH:
                    gate.overloaded()
                elif answer.status == _NOT_BELIEVED:
                    logger.error("the gateway refuses our signature: do clocks and note keys agree?")
                else:
                    failures += 1
            if answer is not None and (answer.final or failures >= MAX_FAILURES):
                return self._outcome(line, request, answer, result_id)
            await asyncio.sleep(_pause(tries, answer))

    def _ended(self, batch: BatchRecord, lease: Lease) -> Mapping[str, str] | None:
        """Why the line is not sent any more."""
        if not lease.alive:
            raise LeaseLostError
        if lease.cancelled:
            return CANCELLED
        return EXPIRED if self._wall_clock() >= batch.expires_at else None

    async def _ask(self, batch: BatchRecord, request: RequestLine) -> _Answer | None:
        """The answer; None if there was none."""
        headers = {"content-type": "application/json", **self._signed(batch)}
        started = time.monotonic()
        try:
            async with self._session.post(
                self._urls[batch.endpoint], data=request.body, headers=headers, timeout=_TIMEOUT
            ) as response:
                raw = await _whole(response)
                answer = _answer(response.status, response.headers, raw)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
        gate, report = self._gates.of(request.model), engine_load.read(response.headers.get(ENGINE_LOAD))
        if report is not None:
            gate.reported(report)
        if 200 <= answer.status < 300:
            gate.succeeded(time.monotonic() - started)
        return answer

    def _outcome(self, line: int, request: RequestLine, answer: _Answer, result_id: str) -> Outcome:
        body = answer.body
        result = answered(line, request.custom_id, answer.request_id, answer.status, body.text, result_id=result_id)
        return Outcome(result, body.usage if result.succeeded else Usage(), executed=True)


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """The body; an answer over the bound is cut, and then no JSON."""
    if response.content_length is not None and response.content_length <= MAX_ANSWER_BYTES:
        return await response.read()
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            break
    return bytes(body)


def _answer(status: int, headers: Mapping[str, str], raw: bytes) -> _Answer:
    body = read_answer(raw)
    if body is None:
        body, status = _NO_JSON, 502 if status < 300 else status
    after = headers.get("retry-after", "")
    seconds = float(after) if _SECONDS.fullmatch(after) else None
    final = headers.get("x-should-retry", "").lower() == "false"
    request_id = headers.get("x-request-id", "")[:128].encode("utf-8", "replace").decode()
    return _Answer(status, request_id, body, seconds, final)


def _pause(tries: int, answer: _Answer | None) -> float:
    """Seconds before the next try: what the server says, else doubling, with jitter against steps."""
    wanted = answer.retry_after if answer is not None and answer.retry_after is not None else 0.25 * 2 ** min(tries, 8)
    return min(wanted, _LONGEST_PAUSE) * (0.75 + random.random() / 2)
