"""Sends one operation to one engine and waits for its answer, within a deadline and a bound of its size.

Nothing raises: a failure is an `EngineAnswer` without a status. An engine gets its own key. Operations that an engine
shall not do at once are sent one after another.
"""

import asyncio
import errno
import os
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Final

import aiohttp
from yarl import URL

from aibrix_extproc.adapters.engineops.turns import Turns
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.operations.agreement import EngineAnswer, wants_again
from aibrix_extproc.core.operations.requests import EngineRequest
from aibrix_extproc.core.operations.table import EngineOperation
from aibrix_extproc.webclient import read_bounded

AGAIN_SECONDS: Final = 0.1  # before an engine is asked again; doubles up to a second
MAX_CONTENT_TYPE: Final = 128


class EngineOps:
    """Sends requests of operations to engines. `session` must follow no redirects and add no headers."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._turns = Turns()  # by address

    async def call(
        self, endpoint: Endpoint, operation: EngineOperation, request: EngineRequest, seconds: float
    ) -> EngineAnswer:
        """The engine's answer, or why there is none. `seconds` includes the wait for operations before it."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with (
                asyncio.timeout(seconds),
                self._turns.of(endpoint.address) if operation.serial else nullcontext(),
            ):
                answer = await self._until_done(endpoint, operation, request, started + seconds)
        except TimeoutError:
            answer = _failure(endpoint, f"no answer within {seconds:g} s")
        return _timed(answer, loop.time() - started)

    async def _until_done(
        self, endpoint: Endpoint, operation: EngineOperation, request: EngineRequest, deadline: float
    ) -> EngineAnswer:
        """Ask again while the answer is no result, and there is time for another try."""
        wait = AGAIN_SECONDS
        while True:
            answer = await self._send(endpoint, request, operation.max_bytes)
            if not wants_again(operation, answer) or asyncio.get_running_loop().time() + wait >= deadline:
                return answer
            await asyncio.sleep(wait)
            wait = min(2 * wait, 1.0)

    async def _send(self, endpoint: Endpoint, request: EngineRequest, max_bytes: int) -> EngineAnswer:
        address = endpoint.address
        if endpoint.runtime and request.of_runtime is not None:
            address, request = endpoint.runtime, request.of_runtime
        url = URL(f"http://{address}{request.target}", encoded=True)
        try:
            async with self._session.request(
                request.method, url, data=request.body, headers=_headers(endpoint, request), allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None),
            ) as response:  # fmt: skip
                if 300 <= response.status < 400:
                    return _failure(endpoint, f"it answers with a redirect ({response.status})")
                body = await read_bounded(response.content, max_bytes)
                if body is None:
                    return _failure(endpoint, f"its answer is over {max_bytes} bytes")
                return EngineAnswer(endpoint.address, response.status, _content_type(response.headers), body)
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            return _failure(endpoint, _reason(error))


def _headers(endpoint: Endpoint, request: EngineRequest) -> dict[str, str]:
    headers = {} if request.body is None else {"content-type": "application/json"}
    return headers if endpoint.api_key is None else headers | {"authorization": f"Bearer {endpoint.api_key}"}


def _content_type(headers: Mapping[str, str]) -> str:
    given = headers.get("Content-Type", "")
    return given if len(given) <= MAX_CONTENT_TYPE and given.isascii() and given.isprintable() else ""


def _reason(error: aiohttp.ClientError | OSError) -> str:
    match error:
        case aiohttp.ClientPayloadError():
            return "its answer broke off"
        case aiohttp.ClientResponseError():
            return "its answer is not valid HTTP"
        case aiohttp.ServerDisconnectedError():
            return "it closed the connection without an answer; it may have done it"
        case OSError(errno=errno.ECONNRESET | errno.EPIPE):
            return "it reset the connection; it may have done it"
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number).lower()
        case _:
            return "the connection failed"


def _failure(endpoint: Endpoint, reason: str) -> EngineAnswer:
    return EngineAnswer(endpoint.address, failure=reason)


def _timed(answer: EngineAnswer, seconds: float) -> EngineAnswer:
    return EngineAnswer(answer.address, answer.status, answer.content_type, answer.body, seconds, answer.failure)
