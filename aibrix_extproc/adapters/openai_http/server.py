"""The API server: verifies who calls, finds the operation's handler, and answers every failure in OpenAI's shape."""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from aiohttp import web

from aibrix_extproc.adapters.openai_http.call import (
    AnyReply,
    Call,
    ContentError,
    Handler,
    RawReply,
    RefusedError,
    Reply,
)
from aibrix_extproc.adapters.openai_http.internal import InternalRoutes
from aibrix_extproc.core.access.principal import NO_GRANTS, Principal
from aibrix_extproc.core.access.signed_caller import verify
from aibrix_extproc.core.openai.contract.errors import Problem, shape
from aibrix_extproc.core.openai.contract.headers import SIGNED_CALLER
from aibrix_extproc.core.openai.contract.operation_rows import ROUTER
from aibrix_extproc.core.openai.contract.operations import Match, Operation, shown, unknown_url
from aibrix_extproc.webserver import WebServer

logger = logging.getLogger(__name__)

IDLE_SECONDS: Final = 60.0  # between two pieces of a request's body, or of an answer that a client reads
_REQUEST_ID: Final = "x-request-id"


class ApiServer(WebServer):
    """Serves some operations of the table; a request for any other is a 404."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        keys: Callable[[], Sequence[bytes]],
        observe: Callable[[str, int, float], None],
        wall_clock: Callable[[], float] = time.time,
        internal: InternalRoutes | None = None,
    ) -> None:
        """`handlers` by operation id; `observe` gets operation, status and seconds of every answer."""
        self._handlers = handlers
        self._keys = keys
        self._observe = observe
        self._wall_clock = wall_clock
        app = web.Application(client_max_size=0)  # handlers read the body in pieces and bound it themselves
        if internal is not None:
            app.router.add_post(r"/internal/{path:.*}", internal.serve)
        app.router.add_route("*", r"/{path:[\s\S]*}", self._serve)  # a dot would leave out paths with a line break
        super().__init__(app)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        started = time.perf_counter()
        request_id = request.headers.get(_REQUEST_ID, "")[:128] or str(uuid.uuid4())
        operation = "unknown"
        try:
            match = self._matched(request)
            operation = match.operation.id
            principal = self._authenticated(request, match.operation)
            _refuse_compressed(request)
            call = Call(principal, request_id, match.parameters, request.query, request, IDLE_SECONDS)
            reply = await self._handlers[operation](call)
            response = await _sent(request, reply, request_id)
        except RefusedError as error:
            response = _refused(error.problem, request_id)
        except ConnectionError:
            logger.info("client went away", extra={"operation": operation, "request_id": request_id})
            response = _refused(Problem("request_timeout"), request_id)
        except Exception:
            logger.exception("request failed", extra={"operation": operation, "request_id": request_id})
            response = _refused(Problem("internal_error", {"request_id": request_id}), request_id)
        if not request.content.is_eof():
            response.force_close()  # the rest of the body would be read as the next request
        self._observe(operation, response.status, time.perf_counter() - started)
        return response

    def _matched(self, request: web.Request) -> Match:
        found = ROUTER.match(request.method, request.path)
        if isinstance(found, Problem):
            raise RefusedError(found)
        if found.operation.id not in self._handlers:
            raise RefusedError(Problem("unknown_url", {"method": request.method, "path": request.path[:256]}))
        return found

    def _authenticated(self, request: web.Request, operation: Operation) -> Principal:
        statement = verify(
            self._keys(), SIGNED_CALLER, request.headers.get(SIGNED_CALLER), operation.id, self._wall_clock()
        )
        if statement is None:
            raise RefusedError(Problem("missing_api_key"))
        principal = Principal(statement.caller, statement.grants or NO_GRANTS)
        if not principal.may_see(operation):  # the gateway has checked it; one of an older version may not have
            raise RefusedError(unknown_url(request.method, request.path))
        return principal


def _refuse_compressed(request: web.Request) -> None:
    """A megabyte of zeros is a kilobyte on the way here, and a thousand on the way to the store."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        raise RefusedError(Problem("unsupported_content_encoding", {"given": shown(encoding, 64)}))


def _refused(problem: Problem, request_id: str) -> web.Response:
    shaped = shape(problem, request_id=request_id)
    return web.Response(
        status=shaped.status, body=shaped.body, headers={**dict(shaped.headers), _REQUEST_ID: request_id}
    )


async def _sent(request: web.Request, reply: AnyReply, request_id: str) -> web.StreamResponse:
    if isinstance(reply, RawReply):
        headers = {_REQUEST_ID: request_id, "content-type": reply.content_type}
        return web.Response(status=reply.status, body=reply.content, headers=headers)
    headers = {_REQUEST_ID: request_id, **reply.headers}
    if isinstance(reply, Reply):
        body = json.dumps(reply.body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        return web.Response(status=reply.status, body=body, headers=headers, content_type="application/json")
    response = web.StreamResponse(status=reply.status, headers=headers)
    if reply.length is not None:
        response.content_length = reply.length
    await response.prepare(request)
    try:
        async for piece in reply.content:
            async with asyncio.timeout(IDLE_SECONDS):
                await response.write(piece)
        await response.write_eof()
    except (ConnectionError, TimeoutError, ContentError) as error:
        # The head is on its way. A cut connection tells the client that the content is not whole.
        if not isinstance(error, ConnectionError):
            logger.warning("content was cut", extra={"request_id": request_id, "error": str(error)[:300]})
        if request.transport is not None:
            request.transport.abort()
    return response
