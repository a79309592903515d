"""As much of S3's protocol as the blob store speaks, in memory, as slow and as faulty as a test orders."""

import asyncio
import hashlib
import itertools
from collections.abc import Callable
from email.utils import formatdate
from xml.sax.saxutils import escape

from aiohttp import web

BUCKET = "bucket"
Fault = Callable[[str, str], int | None]


class ObjectStore:
    """`fault` gets method and key, and may give a status; `pause` is what each request takes, in seconds."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.fault: Fault = lambda *_: None
        self.pause = 0.0
        self._parts: dict[str, dict[int, bytes]] = {}
        self._ids = itertools.count(1)
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{bucket}{key:/?.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> str:
        """Listen; the endpoint's URL."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.Response:
        key = request.match_info["key"].lstrip("/")
        content = await request.read()
        await asyncio.sleep(self.pause)
        status = self.fault(request.method, key)
        if status is not None:
            return web.Response(status=status)
        match request.method:
            case "PUT":
                return self._put(request, key, content)
            case "POST":
                return self._multipart(request, key)
            case "DELETE":
                self.objects.pop(key, None)
                return web.Response(status=204)
            case _ if not key:
                return self._listing(request.query.get("prefix", ""))
            case _:
                return self._get(request, key)

    def _put(self, request: web.Request, key: str, content: bytes) -> web.Response:
        if (upload := request.query.get("uploadId")) is not None:
            self._parts[upload][int(request.query["partNumber"])] = content
        else:
            self.objects[key] = content
        return web.Response(headers={"etag": _etag(content)})

    def _multipart(self, request: web.Request, key: str) -> web.Response:
        if (upload := request.query.get("uploadId")) is None:
            upload = str(next(self._ids))
            self._parts[upload] = {}
            name = "InitiateMultipartUploadResult"
            return _xml(f"<{name}><UploadId>{upload}</UploadId></{name}>")
        parts = self._parts.pop(upload)
        self.objects[key] = b"".join(parts[number] for number in sorted(parts))
        name = "CompleteMultipartUploadResult"
        return _xml(f"<{name}><ETag>{escape(_etag(self.objects[key]))}</ETag></{name}>")

    def _get(self, request: web.Request, key: str) -> web.Response:
        if key not in self.objects:
            return web.Response(status=404)
        content = self.objects[key]
        headers = {"etag": _etag(content), "last-modified": formatdate(usegmt=True)}
        span = request.http_range
        if span.start is None and span.stop is None:
            return web.Response(body=content, headers=headers)
        start, stop = span.start or 0, min(span.stop or len(content), len(content))
        headers["content-range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        return web.Response(status=206, body=content[start:stop], headers=headers)

    def _listing(self, prefix: str) -> web.Response:
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{escape(_etag(content))}</ETag><Size>{len(content)}</Size></Contents>"
            for key, content in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        return _xml(f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>")


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _xml(text: str) -> web.Response:
    return web.Response(text=f'<?xml version="1.0" encoding="UTF-8"?>{text}', content_type="application/xml")
