"""Lets a prefill engine compute a prompt: one POST, its short answer read within bounds.

A cancelled call closes its connection, by which vLLM notices and aborts the request.
"""

import asyncio
from http import HTTPStatus
from typing import Final

import aiohttp
from yarl import URL

from aibrix_extproc.adapters.engine.client import engine_session
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.openai.wire.prefill import PrefillAnswer, read_answer
from aibrix_extproc.webclient import read_bounded

MAX_ANSWER_BYTES: Final = 2 * 1024 * 1024
IDLE_SECONDS: Final = 2.0  # vLLM closes a connection that was idle for five
_AGAIN: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


class PrefillError(Exception):
    """A prefill engine did not compute the prompt; the text is one of PREFILL_REASONS."""


class PrefillRefused(PrefillError):
    """The engine refuses the request itself, as other engines would."""


class PrefillClient:
    """Owns its connections; made and closed on the loop that it runs on."""

    def __init__(self) -> None:
        self._session = engine_session(IDLE_SECONDS)

    async def send(self, engine: Endpoint, path: str, body: bytes, request_id: str, seconds: float) -> PrefillAnswer:
        """The engine's answer to a prefill. Raises PrefillError."""
        headers = {"content-type": "application/json", "x-request-id": request_id}
        if engine.api_key is not None:
            headers["authorization"] = f"Bearer {engine.api_key}"
        url = URL(f"http://{engine.address}{path}", encoded=True)
        try:
            async with asyncio.timeout(seconds), self._session.post(
                url, data=body, headers=headers, allow_redirects=False, timeout=aiohttp.ClientTimeout(total=None)
            ) as response:  # fmt: skip
                _check_status(response.status)
                data = await read_bounded(response.content, MAX_ANSWER_BYTES)
        except TimeoutError as error:
            raise PrefillError("timeout") from error
        except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError) as error:
            raise PrefillError("invalid") from error
        except (aiohttp.ClientError, OSError) as error:
            raise PrefillError("unreachable") from error
        if data is None:
            raise PrefillError("too_large")
        answer = read_answer(data, engine.address.rpartition(":")[0].strip("[]"))
        if answer is None:
            raise PrefillError("invalid")
        return answer

    async def close(self) -> None:
        """End all connections."""
        await self._session.close()


def _check_status(status: int) -> None:
    if status == HTTPStatus.OK:
        return
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _AGAIN:
        raise PrefillRefused("refused")
    raise PrefillError("status")
