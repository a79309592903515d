"""Signed requests of a gateway to the metadata service, and answers that only the service can have signed."""

import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final

import aiohttp

from aibrix_extproc.core.access.signed_message import SIGNATURE, claimed, covers, sign_message
from aibrix_extproc.webclient import read_bounded

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
_REFUSED: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE})


class UnavailableError(Exception):
    """The service did not answer, or not as one of ours: the same request may succeed later. One sentence."""


class MessageRefusedError(Exception):
    """The service will never take this content. One sentence."""


class InternalClient:
    """Sends contents, each with a signature. `sender` is the name of this process."""

    def __init__(
        self, base_url: str, sender: str, secrets: Callable[[], Sequence[bytes]],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._base_url = base_url.rstrip("/")
        self._sender = sender
        self._secrets = secrets
        self._wall_clock = wall_clock
        self._session: aiohttp.ClientSession | None = None

    async def post(self, path: str, kind: str, content: bytes, timeout_seconds: float) -> bytes:
        """The answer's content. Raises UnavailableError and MessageRefusedError."""
        session = self._session = self._session or aiohttp.ClientSession(auto_decompress=False, trust_env=False)
        signature = sign_message(self._secrets()[0], kind, self._sender, self._wall_clock(), content)
        timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        try:
            async with session.post(
                self._base_url + path, data=content, headers={SIGNATURE: signature}, timeout=timeout,
                allow_redirects=False,
            ) as answer:  # fmt: skip
                body = await read_bounded(answer.content, MAX_ANSWER_BYTES)
                if body is None:
                    raise aiohttp.ClientPayloadError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(f"the metadata service does not answer: {type(error).__name__} {error}") from error
        signed = claimed(self._secrets(), f"{kind}_answer", answer.headers.get(SIGNATURE), self._wall_clock())
        # The content of the request is a part of it, so that an answer fits no other request.
        if signed is None or not covers(signed, content, body):
            raise UnavailableError(
                f"the metadata service answers {answer.status} without our signature: do note keys and clocks agree?"
            )
        if answer.status in _REFUSED:
            raise MessageRefusedError(f"the metadata service refuses it: {body[:200].decode(errors='replace')}")
        if answer.status != HTTPStatus.OK:
            raise UnavailableError(f"the metadata service answers {answer.status}")
        return body

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
