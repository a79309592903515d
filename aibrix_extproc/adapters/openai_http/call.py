"""One request to an API server and its reply, as its handlers see them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from aiohttp import web

from aibrix_extproc.core.access.principal import Principal
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.refusals import json_type

T = TypeVar("T")
MAX_JSON_BYTES: Final = 1024 * 1024


class RefusedError(Exception):
    """Ends a handler with an error for the client."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.key)
        self.problem = problem


class ContentError(Exception):
    """The content of a StreamReply cannot be read to its end."""


def refuse(key: str, *, param: str | None = None, **values: str) -> RefusedError:
    """The exception for a row of ERRORS."""
    given = values if param is None else values | {"param": param}
    return RefusedError(Problem(key, given, param=param))


def good(value: T | Problem) -> T:
    """The value, or the refusal as an exception."""
    if isinstance(value, Problem):
        raise RefusedError(value)
    return value


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    body: Mapping[str, object]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RawReply:
    """A whole answer as its bytes."""

    content: bytes
    content_type: str
    status: int = 200


@dataclass(frozen=True, slots=True)
class StreamReply:
    """An answer in pieces, of a length that is known before, or of none (None)."""

    content: AsyncIterator[bytes]
    length: int | None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose caller is known."""

    principal: Principal
    request_id: str
    parameters: Mapping[str, str]  # of the path
    query: Mapping[str, str]
    request: web.Request
    idle_seconds: float  # the longest time between two pieces of the body
    target: dict[str, object] = field(default_factory=dict)  # what it is about, for the audit; a handler adds to it

    @property
    def caller(self) -> str:
        """The caller's name."""
        return self.principal.name

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises RefusedError when the client stops sending."""
        while True:
            try:
                async with asyncio.timeout(self.idle_seconds):
                    piece = await self.request.content.readany()
            except TimeoutError:
                raise refuse("request_timeout") from None
            if not piece:
                return
            yield piece

    async def json(self) -> Mapping[str, Any]:
        """The body as a JSON object, an empty one as {}."""
        body = bytearray()
        async for piece in self.pieces():
            body += piece
            if len(body) > MAX_JSON_BYTES:
                raise refuse("request_too_large", limit=str(MAX_JSON_BYTES))
        if not body:
            return {}
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            raise refuse("malformed_json") from None
        if not isinstance(found, dict):
            raise refuse("malformed_json")
        return found


AnyReply = Reply | RawReply | StreamReply
Handler = Callable[[Call], Awaitable[AnyReply]]


def wanted(fields: Mapping[str, Any], name: str, kind: type, expected: str) -> Any:
    """A required field of a JSON body, of one type. Raises RefusedError."""
    value = fields.get(name)
    if value is None:
        raise refuse("missing_required_parameter", param=name)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise RefusedError(
            Problem("invalid_type", {"param": name, "expected": expected, "got": json_type(value)}, param=name)
        )
    return value
