"""The files of the explorer, and the document with the address of the gateway that it calls."""

import asyncio
from importlib.resources import files
from typing import Final

from aiohttp import web

from aibrix_extproc.interfaces.document import Document, read_document

# path below /explorer -> file, its type
_FILES: Final = {
    "": ("index.html", "text/html"),
    "/start.js": ("start.js", "text/javascript"),
    "/swagger-ui-bundle.js": ("swagger-ui-bundle.js.gz", "text/javascript"),
    "/swagger-ui.css": ("swagger-ui.css.gz", "text/css"),
}


class Explorer:
    """Pages that call the gateway at `origin`, such as http://127.0.0.1:8080."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._document: Document | None = None
        # Scripts come from here alone, and keys go to the gateway alone.
        self._policy = (
            f"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
            f"connect-src 'self' {origin}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        )

    def routes(self) -> list[web.RouteDef]:
        """The routes of the explorer's files and of its document."""
        pages = [web.get(f"/explorer{path}", self._on_file) for path in _FILES]
        return [*pages, web.get("/explorer/openapi.json", self._on_document)]

    async def _on_file(self, request: web.Request) -> web.Response:
        name, media = _FILES[request.path.removeprefix("/explorer")]
        body = await asyncio.to_thread((files(__package__) / name).read_bytes)
        headers = {"content-type": f"{media}; charset=utf-8", "content-security-policy": self._policy}
        if name.endswith(".gz"):  # every browser unpacks it
            headers["content-encoding"] = "gzip"
        return web.Response(body=body, headers=headers)

    async def _on_document(self, _: web.Request) -> web.Response:
        if self._document is None:
            self._document = await asyncio.to_thread(read_document)
        body = await asyncio.to_thread(self._document.of_server, self._origin)
        return web.Response(body=body, content_type="application/json")
