"""The gateway as a batch worker sees it: answers requests, with faults to order, and remembers what was asked."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import ClientSession, web

Fault = Callable[[str, int], tuple[int, dict[str, str]] | None]


class Engine:
    """`fault` gets the last message and how often it was asked; it may give another status with headers."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.fault: Fault = lambda *_: None
        self.hold = asyncio.Event()
        self.hold.set()
        self.running = 0
        self.most = 0
        app = web.Application(client_max_size=2**28)
        app.router.add_post("/v1/{rest:.*}", self._serve)
        app.router.add_get("/v1/models", _models)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)

    async def start(self) -> str:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def catch_up(self) -> None:
        """Count what processes have sent that are dead or frozen: a request that comes after it is answered."""
        url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1/models"
        async with ClientSession() as session, session.get(url) as answer:
            assert answer.status == 200

    async def stop(self) -> None:
        self.hold.set()
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json()
        text = body["messages"][-1]["content"]
        self.asked[text] += 1
        self.headers.append(dict(request.headers))
        fault = self.fault(text, self.asked[text])
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.hold.wait()
        finally:
            self.running -= 1
        headers = {"x-request-id": f"req-{text}"}
        if fault is not None:
            status, more = fault
            error = {"error": {"message": "no", "type": "x", "param": None, "code": None}}
            return web.Response(
                status=status, text=json.dumps(error), headers=headers | more, content_type="application/json"
            )
        answer = {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
                      "prompt_tokens_details": {"cached_tokens": 1}},
        }  # fmt: skip
        return web.Response(text=json.dumps(answer), headers=headers, content_type="application/json")


async def _models(_: web.Request) -> web.Response:
    listed = [{"id": name, "object": "model", "created": 1, "owned_by": "x"} for name in ("m", "n")]
    return web.json_response({"object": "list", "data": listed})
