"""An engine that answers every operation that the gateway serves with the SDK's own types, and stores no response.

Runs in the suite's environment: `python engine.py MODEL...`. It prints its port once it listens.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from openai.types import Completion, CreateEmbeddingResponse, Embedding, Model, ModelDeleted
from openai.types.audio import Transcription, Translation
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseCompletedEvent, ResponseItemList

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.sdk_suite.examples import checked, example

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _json(make: Callable[[str], object]) -> Handler:
    """Answers with what is made of the id that the path names."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return web.json_response(make(request.match_info.get("id", "")))

    return handle


def _answered(whole: Callable[[str], object], events: list[str]) -> Handler:
    """Answers with a whole object, or with events if the request asks for a stream."""

    async def handle(request: web.Request) -> web.StreamResponse:
        wanted, response_id = await _wanted(request)
        if not wanted:
            return web.json_response(whole(response_id))
        stream = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await stream.prepare(request)
        await stream.write("".join(events).encode())
        return stream

    return handle


async def _wanted(request: web.Request) -> tuple[bool, str]:
    """Whether to stream, and the id of the response that the request makes or names."""
    named = request.match_info.get("id", "resp_made")
    if request.method == "GET":
        return request.query.get("stream") == "true", named
    if request.content_type == "application/json":
        body = await request.json()
        return body.get("stream") is True, body.get("request_id", named)
    form = await request.post()
    return form.get("stream") in ("true", "True"), named


def _data(value: object) -> str:
    return f"data: {json.dumps(value)}\n\n"


def _response(response_id: str) -> Any:
    return checked(Response, id=response_id, tools=[])


DONE = "data: [DONE]\n\n"
CHUNK = checked(ChatCompletionChunk)
TRANSCRIPT = {"object": "transcription.chunk", "id": "t", "created": 1, "model": "m", "choices": []}
COMPLETED = checked(ResponseCompletedEvent, response=_response("resp_made"))
COMPLETED_EVENTS = [f"event: response.completed\n{_data(COMPLETED)}"]
EMBEDDING = checked(Embedding, embedding=[0.5, 0.25])

_RESPONSE = _answered(_response, COMPLETED_EVENTS)
ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/v1/chat/completions", _answered(lambda _: checked(ChatCompletion), [_data(CHUNK), DONE])),
    ("POST", "/v1/completions", _answered(lambda _: checked(Completion), [_data(checked(Completion)), DONE])),
    ("POST", "/v1/embeddings", _json(lambda _: checked(CreateEmbeddingResponse, data=[EMBEDDING]))),
    ("POST", "/v1/responses", _RESPONSE),
    ("GET", "/v1/responses/{id}", _RESPONSE),
    ("POST", "/v1/responses/{id}/cancel", _json(_response)),
    ("DELETE", "/v1/responses/{id}", _json(lambda _: None)),
    ("GET", "/v1/responses/{id}/input_items", _json(lambda _: checked(ResponseItemList))),
    ("POST", "/v1/audio/transcriptions", _answered(lambda _: checked(Transcription), [_data(TRANSCRIPT), DONE])),
    ("POST", "/v1/audio/translations", _json(lambda _: checked(Translation))),
    ("GET", "/v1/models/{id}", _json(lambda name: checked(Model, id=name))),
    ("DELETE", "/v1/models/{id}", _json(lambda name: checked(ModelDeleted, id=name))),
)


async def main(models: list[str]) -> None:
    """Serve until the process is ended."""
    cards = {"object": "list", "data": [example(Model) | {"id": name} for name in models]}
    app = web.Application()
    app.router.add_get("/health", _json(lambda _: {}))
    app.router.add_get("/v1/models", _json(lambda _: cards))
    for method, path, handler in ROUTES:
        app.router.add_route(method, path, handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"listening on {runner.addresses[0][1]}", flush=True)  # noqa: T201 (whoever started it waits for the port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
