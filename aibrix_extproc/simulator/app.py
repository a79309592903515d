"""One request from its first byte to its last: faults, authentication, route, answer."""

import asyncio
import hmac
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final
from uuid import uuid4

from aiohttp import web
from aiohttp.http import HttpVersion11

from aibrix_extproc.simulator import errors
from aibrix_extproc.simulator.admin import Admin
from aibrix_extproc.simulator.background import Background
from aibrix_extproc.simulator.engine import Engine
from aibrix_extproc.simulator.errors import EngineError, Reply, ReplyError
from aibrix_extproc.simulator.faults import Fault, FaultName, FaultPlan, FaultSyntaxError, parse_header
from aibrix_extproc.simulator.recorder import RecordedRequest, Recorder
from aibrix_extproc.simulator.response_store import ResponseStore
from aibrix_extproc.simulator.routes.table import Handler, RouteTable, routes_of
from aibrix_extproc.simulator.sending import Sender
from aibrix_extproc.simulator.wire import Answer, Call, EventStream, Pace, parse_pace

_GUARDED: Final = ("/v1", "/v2", "/inference", "/cohere")
_HTML: Final = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>502 Bad Gateway</body>\r\n</html>\r\n"


class App:
    """Answers the requests of one engine."""

    def __init__(
        self,
        engine: Engine,
        background: Background,
        crash: Callable[[], None],
        refuse_connections: Callable[[float], None],
    ) -> None:
        self.engine = engine
        self.faults = FaultPlan()
        self.answering: set[object] = set()
        """The connections whose request was read in full."""
        options = engine.options
        self.recorder = Recorder(options.recorded_requests if options.admin else 0, options.recorded_body_bytes)
        self.store = ResponseStore(options.responses_store)
        self._options = options
        self._background = background
        self._crash = crash
        self._refuse_connections = refuse_connections
        self._table = RouteTable(routes_of(options))
        self._admin = Admin(engine, self.faults, self.recorder, refuse_connections) if options.admin else None
        self._pace = Pace(None, options.itl_ms / 1e3, options.tokens_per_write)
        self._keys = tuple(f"Bearer {key}".encode() for key in options.api_keys)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The handler of aiohttp's server."""
        try:
            return await self._handle(request)
        finally:
            self.answering.discard(request.protocol)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        fault: Fault | None = None
        try:
            body = await self._read(request)
            self.answering.add(request.protocol)
            if self._admin is not None and request.path.startswith("/sim/"):
                return await self._sender(request, None).reply(self._admin.answer(request, body))
            record = self._record(request, body)
            fault = self._choose_fault(request)
            if record is not None and fault is not None:
                record.fault = fault.name
            early = await self._before_headers(request, fault)
            answer = early or await self._answer(request, body, fault)
        except ReplyError as error:
            answer, record = error.reply, None
        return await self._send(request, answer, fault, record)

    async def _send(
        self, request: web.BaseRequest, answer: Answer, fault: Fault | None, record: RecordedRequest | None
    ) -> web.StreamResponse:
        status = answer.status if isinstance(answer, Reply) else 200
        match = None if status == 405 else self._table.find(request.path)
        # Unknown paths share one label value: clients must not be able to fill the exposition.
        self.engine.metrics.count_http(request.method, match.route.path if match else "none", status)
        if record is not None:
            record.status = status
        sender = self._sender(request, fault, status)
        if isinstance(answer, EventStream):
            return await sender.stream(answer)
        return await sender.reply(answer)

    async def _read(self, request: web.BaseRequest) -> bytes:
        if request.headers.get("Expect", "").lower() == "100-continue" and request.version == HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # aiohttp counts this as output; without the reset it would think that the head is sent.
            request.writer.output_size = 0
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise ReplyError(errors.shape_b(413, "Request Entity Too Large", {"Connection": "close"})) from None

    def _record(self, request: web.BaseRequest, body: bytes) -> RecordedRequest | None:
        if not self.recorder.capacity:
            return None
        peer = request.transport.get_extra_info("peername") if request.transport else None
        connection = f"{peer[0]}:{peer[1]}" if peer else ""
        url = request.rel_url
        headers = [(key, value) for key, value in request.headers.items()]
        return self.recorder.record(request.method, url.raw_path, url.raw_query_string, headers, body, connection)

    def _choose_fault(self, request: web.BaseRequest) -> Fault | None:
        if self._admin is None:
            return None
        wish = request.headers.get("x-sim-fault")
        if wish is None:
            return self.faults.take(request.method, request.path)
        try:
            return parse_header(wish)
        except FaultSyntaxError as error:
            raise ReplyError(errors.shape_a(400, "BadRequestError", f"x-sim-fault: {error}")) from None

    async def _before_headers(self, request: web.BaseRequest, fault: Fault | None) -> Reply | None:
        """Let those faults happen that come before the status line; some of them are the whole answer."""
        if fault is None:
            return None
        if fault.name is FaultName.RESET_BEFORE_HEADERS:
            self._sender(request, None).reset()
            raise ConnectionResetError("fault injection")
        if fault.name is FaultName.CRASH:
            self._crash()
            raise ConnectionResetError("fault injection")
        if fault.name is FaultName.REFUSE_CONNECTIONS:
            self._refuse_connections(fault.number("seconds"))
        if fault.name in (FaultName.STALL, FaultName.SLOW_HEADERS):
            await asyncio.sleep(fault.number("seconds"))
        return _whole_answer(fault)

    async def _answer(self, request: web.BaseRequest, body: bytes, fault: Fault | None) -> Answer:
        try:
            found = self._route(request)
            if isinstance(found, Reply):
                return found
            handler, values = found
            pace = parse_pace(request.headers, self._pace) if self._admin is not None else self._pace
            if fault is not None and not pace.tokens_per_write:
                # Faults count writes: without this an instantaneous answer would be a single one.
                pace = replace(pace, tokens_per_write=1)
            call = Call(
                engine=self.engine,
                store=self.store,
                background=self._background,
                method=request.method,
                path=request.path,
                query=request.query,
                headers=request.headers,
                body=body,
                pace=pace,
                path_values=values,
            )
            return await handler(call)
        except EngineError as error:
            if request.path.startswith("/v1/messages") and error.kind != "Bad Request":
                return errors.shape_d(error.status, error.kind, error.message)
            return error.reply()

    def _route(self, request: web.BaseRequest) -> Reply | tuple[Handler, tuple[str, ...]]:
        """The handler of a request, or why there is none."""
        method, path, headers = request.method, request.path, request.headers
        if method == "OPTIONS" and "Origin" in headers and "Access-Control-Request-Method" in headers:
            return errors.CORS_REFUSED
        if self._keys and method != "OPTIONS" and path.startswith(_GUARDED) and not self._knows_key(headers):
            return errors.UNAUTHORIZED
        match = self._table.find(path)
        if match is None:
            return self._redirect(request) or errors.NOT_FOUND
        handler = match.route.methods.get(method)
        if handler is None:
            allow = ", ".join(match.route.methods)
            return errors.shape_b(405, "Method Not Allowed", {"Allow": allow})
        return handler, match.values

    def _redirect(self, request: web.BaseRequest) -> Reply | None:
        """Starlette redirects a path with one slash too many or too few, to the host of the Host header."""
        path = request.path
        other = path.rstrip("/") if path.endswith("/") else path + "/"
        if path == "/" or self._table.find(other) is None:
            return None
        query = f"?{request.query_string}" if request.query_string else ""
        return Reply(307, b"", "", {"Location": f"http://{request.host}{other}{query}"})

    def _knows_key(self, headers: Mapping[str, str]) -> bool:
        given = headers.get("Authorization", "").encode("utf-8", "replace")
        return any(hmac.compare_digest(given, key) for key in self._keys)

    def _sender(self, request: web.BaseRequest, fault: Fault | None, status: int = 200) -> Sender:
        # Refusals of the key come from a middleware outside of the one for CORS.
        common = {} if status == 401 else {"Vary": "Origin"}
        if self._options.request_id_headers:
            common["X-Request-Id"] = request.headers.get("x-request-id") or uuid4().hex
        return Sender(request, self._options.keep_alive_seconds, fault, self._crash, common)


def _whole_answer(fault: Fault) -> Reply | None:
    if fault.name is FaultName.STATUS:
        reply = errors.shaped(fault.text("shape"), fault.integer("code"), fault.text("message"))
        after = fault.text("retry_after")
        return replace(reply, headers={"Retry-After": after}) if after else reply
    if fault.name is FaultName.HTML_502:
        return Reply(502, _HTML, "text/html")
    if fault.name is FaultName.MALFORMED_JSON:
        return Reply(200, b'{"id":"chatcmpl-broken","object":"chat.completion","choices":[{"index":0,"mess')
    return None
