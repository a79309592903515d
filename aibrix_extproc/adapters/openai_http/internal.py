"""Routes that only our own processes may use: contents and answers are signed. Envoy has no route to them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from aibrix_extproc.core.access.signed_message import SIGNATURE, claimed, covers, sign_message
from aibrix_extproc.core.openai.contract.errors import Problem, shape
from aibrix_extproc.core.openai.contract.operations import unknown_url

MAX_BYTES: Final = 16 * 1024 * 1024
_READ_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class InternalReply:
    """An answer to one of our processes."""

    content: bytes = b""
    status: int = 200


@dataclass(frozen=True, slots=True)
class InternalRoute:
    """A route: its kind of message, and what handles one. The handler gets the sender's name and the content."""

    kind: str
    handle: Callable[[str, bytes], Awaitable[InternalReply]]


class InternalRoutes:
    """Routes by path; all take POST. For anybody else they are unknown URLs."""

    def __init__(
        self, routes: Mapping[str, InternalRoute], keys: Callable[[], Sequence[bytes]], wall_clock: Callable[[], float]
    ) -> None:
        self._routes = routes
        self._keys = keys
        self._wall_clock = wall_clock

    async def serve(self, request: web.Request) -> web.Response:
        """Answer a request."""
        reply = await self._signed_reply(request)
        return reply if reply is not None else _refusal(unknown_url(request.method, request.path))

    async def _signed_reply(self, request: web.Request) -> web.Response | None:
        route = self._routes.get(request.path)
        if route is None:
            return None
        statement = claimed(self._keys(), route.kind, request.headers.get(SIGNATURE), self._wall_clock())
        if statement is None:  # so nothing of a stranger's content is read
            return None
        content = await _content(request)
        if not covers(statement, content):
            return None
        reply = await route.handle(statement.caller, content)
        signature = sign_message(
            self._keys()[0], f"{route.kind}_answer", "metadata", self._wall_clock(), content, reply.content
        )
        return web.Response(status=reply.status, body=reply.content, headers={SIGNATURE: signature})


async def _content(request: web.Request) -> bytes:
    """The body, as far as it is read: one that is longer or comes too slowly fits no signature."""
    body = bytearray()
    try:
        async with asyncio.timeout(_READ_SECONDS):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > MAX_BYTES:
                    break
    except TimeoutError:
        pass
    return bytes(body)


def _refusal(problem: Problem) -> web.Response:
    shaped = shape(problem)
    response = web.Response(status=shaped.status, body=shaped.body, headers=dict(shaped.headers))
    response.force_close()  # the body may not have been read
    return response
