"""A scripted engine over real HTTP: the routes that the gateway asks, each with an answer that a test may change.

The simulator is the faithful engine; this one can also give answers that no vLLM would give.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from aiohttp import web

from tests.ports import free_port

GENERATE_ROUTES = ("/v1/chat/completions", "/v1/completions")


def models_body(*cards: dict[str, object] | str) -> bytes:
    data = [{"id": card} if isinstance(card, str) else card for card in cards]
    return json.dumps({"object": "list", "data": data}).encode()


class FakeEngine:
    """Counts what it is asked in `asked`; `answers` maps a path to (status, body); None as answer: silence."""

    def __init__(
        self, *models: str, post_routes: Sequence[str] = GENERATE_ROUTES, api_key: str | None = None, port: int = 0
    ) -> None:
        self.port = port or free_port()  # its own, also while it is stopped
        self.api_key = api_key
        self.post_routes = set(post_routes)
        self.asked: Counter[str] = Counter()
        self.answers: dict[str, tuple[int, bytes] | None] = {
            "/health": (200, b""),
            "/v1/models": (200, models_body(*models)),
        }
        self.delays: dict[str, float] = {}  # seconds before an answer, by path
        self._runner: web.ServerRunner | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def serve(self, *cards: dict[str, object] | str) -> None:
        """List other models from now on."""
        self.answers["/v1/models"] = (200, models_body(*cards))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; after a stop on the same port again."""
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked[request.path] += 1
        await asyncio.sleep(self.delays.get(request.path, 0.0))
        wanted = f"Bearer {self.api_key}" if self.api_key and request.path.startswith("/v1/") else None
        if wanted and request.headers.get("authorization") != wanted:
            return web.json_response({"error": "Unauthorized"}, status=401)
        if request.path in self.answers:
            answer = self.answers[request.path]
            if answer is None:
                await asyncio.sleep(60)
                return web.Response(status=500)
            return web.Response(status=answer[0], body=answer[1], content_type="application/json")
        if request.path in self.post_routes:
            return web.json_response({"detail": "Method Not Allowed"}, status=405, headers={"allow": "POST"})
        return web.json_response({"detail": "Not Found"}, status=404)
