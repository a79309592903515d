"""What the metadata service is measured against, each in a process of its own: an engine, and a plain upload handler.

`python -m benchmarks.metadata_peers engine PORT` or `plain PORT FOLDER`.
"""

import asyncio
import hashlib
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

ENGINE_SECONDS: Final = 0.001
_ANSWER: Final = json.dumps({
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "word " * 40}}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 40, "total_tokens": 60},
})  # fmt: skip


async def _chat(request: web.Request) -> web.Response:
    await request.read()
    await asyncio.sleep(ENGINE_SECONDS)
    return web.Response(text=_ANSWER, content_type="application/json")


async def _models(_: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "x"}]})


def engine() -> web.Application:
    """Answers each request after a millisecond, and lists one model."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", _chat)
    app.router.add_get("/v1/models", _models)
    return app


def plain(folder: Path) -> web.Application:
    """Writes the file of a form to a folder, as aiohttp's own documentation does it; a GET has a constant answer.

    Below /durable it does what we promise: the content is hashed and flushed to the disk before the answer. The file is
    removed after the answer, as new pages of the file system's cache cost many times what used ones do.
    """

    async def upload(request: web.Request) -> web.Response:
        durable = request.path.startswith("/durable")
        size, digest = 0, hashlib.sha256()
        path = folder / secrets.token_hex(8)
        async for part in await request.multipart():
            if not isinstance(part, aiohttp.BodyPartReader) or part.name != "file":
                continue
            with path.open("wb") as file:
                while piece := await part.read_chunk(256 * 1024):
                    file.write(piece)
                    size += len(piece)
                    if durable:
                        digest.update(piece)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
        response = web.json_response({"bytes": size, "sha256": digest.hexdigest()})
        await response.prepare(request)
        await response.write_eof()
        path.unlink()
        return response

    async def constant(_: web.Request) -> web.Response:
        return web.json_response(
            {"id": "file-1", "object": "file", "bytes": 10, "filename": "x", "status": "processed"}
        )

    app = web.Application(client_max_size=2**40)
    app.router.add_post("/v1/files", upload)
    app.router.add_post("/durable/v1/files", upload)
    app.router.add_get("/v1/files", constant)
    return app


if __name__ == "__main__":
    kind, port, *rest = sys.argv[1:]
    web.run_app(
        engine() if kind == "engine" else plain(Path(rest[0])), host="127.0.0.1", port=int(port), print=None,
        access_log=None,
    )  # fmt: skip
