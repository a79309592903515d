"""Puts answers on the wire, and breaks them there when a fault says so."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from aiohttp import web

from aibrix_extproc.simulator.errors import Reply, error_object
from aibrix_extproc.simulator.faults import Fault, FaultName
from aibrix_extproc.simulator.wire import EventStream

_LINGER_ZERO: Final = struct.pack("ii", 1, 0)
_MID_STREAM: Final = frozenset({
    FaultName.RESET_MID_STREAM, FaultName.CLOSE_MID_STREAM, FaultName.STALL_MID_STREAM, FaultName.ERROR_EVENT,
    FaultName.FIRST_EVENT_ERROR, FaultName.CRASH_MID_STREAM,
})  # fmt: skip
_EVENTS_ONLY: Final = frozenset({FaultName.ERROR_EVENT, FaultName.FIRST_EVENT_ERROR})


class Sender:
    """Sends the answer of one request."""

    def __init__(
        self,
        request: web.BaseRequest,
        keep_alive: float,
        fault: Fault | None,
        crash: Callable[[], None],
        common: Mapping[str, str],
    ) -> None:
        self._request = request
        self._common = common
        self._keep_alive = keep_alive
        self._fault = fault
        self._crash = crash
        self._piece_bytes = 0
        self._whole = False
        if fault is not None and fault.name is FaultName.SSE_PIECES:
            self._piece_bytes = max(1, fault.integer("bytes"))

    async def reply(self, reply: Reply) -> web.StreamResponse:
        """Send a whole answer; a fault of the middle happens in the middle of the body."""
        response = self._response(reply.status, reply.content_type)
        response.headers.update(reply.headers)
        response.content_length = len(reply.body)
        self._whole = True
        await response.prepare(self._request)
        if self._request.method == "HEAD":
            return response
        fault = self._fault
        if self._piece_bytes or (fault is not None and fault.name in _MID_STREAM - _EVENTS_ONLY):
            half = len(reply.body) // 2
            async for part in self._with_fault(_halves(reply.body, half)):
                await self._write(response, part)
        else:
            await response.write(reply.body)
        return response

    async def stream(self, stream: EventStream) -> web.StreamResponse:
        """Send an answer event by event."""
        response = self._response(200, stream.content_type)
        response.headers.update(stream.headers)
        response.enable_chunked_encoding()
        try:
            await response.prepare(self._request)
            events = stream.events if self._fault is None else self._with_fault(stream.events)
            async for event in events:
                if self._piece_bytes:
                    await self._write(response, event)
                else:
                    await response.write(event)
        finally:
            stream.close()
        return response

    def reset(self) -> None:
        """Answer with RST, even if something is buffered."""
        transport = self._request.transport
        if transport is not None:
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            transport.abort()

    def _response(self, status: int, content_type: str) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        headers = response.headers
        headers["Server"] = "uvicorn"
        # The request's class takes an empty content type off again, against aiohttp's default.
        headers["Content-Type"] = content_type
        headers.update(self._common)
        if self._keep_alive <= 0:
            response.force_close()
        else:
            headers["Keep-Alive"] = f"timeout={self._keep_alive:g}"
        return response

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        """Write in pieces, each its own TCP segment: the loop must turn once, else uvloop joins them."""
        size = self._piece_bytes or len(data)
        for start in range(0, len(data), size):
            await response.write(data[start : start + size])
            await asyncio.sleep(0)

    async def _with_fault(self, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        fault = self._fault
        assert fault is not None
        after = 0
        if "after" in fault.values:
            after = fault.integer("after")
        sent = 0
        async for event in events:
            if fault.name in _MID_STREAM and sent == after:
                async for extra in self._happen(fault):
                    yield extra
                if fault.name is not FaultName.STALL_MID_STREAM:
                    return
            yield event
            sent += 1

    async def _happen(self, fault: Fault) -> AsyncIterator[bytes]:
        # What was written before must be on the wire before the connection is broken.
        await asyncio.sleep(0.01)
        if fault.name is FaultName.STALL_MID_STREAM:
            await asyncio.sleep(fault.number("seconds"))
        elif fault.name in (FaultName.ERROR_EVENT, FaultName.FIRST_EVENT_ERROR):
            yield error_events(fault)
        elif fault.name is FaultName.RESET_MID_STREAM:
            self.reset()
            raise ConnectionResetError("fault injection")
        elif fault.name is FaultName.CRASH_MID_STREAM:
            self._crash()
        elif (self._whole or fault.text("framing") == "broken") and self._request.transport is not None:
            # A body with a length cannot end early in a proper way.
            self._request.transport.close()
            raise ConnectionResetError("fault injection")


def error_events(fault: Fault) -> bytes:
    """An error inside of a stream, with json.dumps' spacing as in vLLM, and the end marker."""
    code = fault.integer("code")
    text = json.dumps(error_object(code, "InternalServerError", fault.text("message")))
    return f"data: {text}\n\ndata: [DONE]\n\n".encode()


async def _halves(body: bytes, half: int) -> AsyncIterator[bytes]:
    yield body[:half]
    yield body[half:]
