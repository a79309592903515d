"""An engine that is asked nicely and answers every POST with bytes that the test wrote: what no engine should send."""

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator, Mapping

from tests.dataplane.raw import LOOPBACK


class _Talk(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        """One request per connection."""
        line = self.rfile.readline().decode("latin-1")
        headers = {}
        while (field := self.rfile.readline()) not in (b"\r\n", b""):
            name, _, value = field.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        self.rfile.read(int(headers.get("content-length") or 0))
        with contextlib.suppress(OSError):
            self.wfile.write(self._answer(line, headers.get("x-script", "")))

    def _answer(self, line: str, script: str) -> bytes:
        scripts: Mapping[str, bytes] = self.server.scripts  # type: ignore[attr-defined]
        method, path = line.split(" ")[:2] if line.count(" ") == 2 else ("", "")
        if method == "POST":
            return scripts[script]
        models: bytes = self.server.models  # type: ignore[attr-defined]
        body = {"/v1/models": models, "/health": b""}.get(path)
        if body is None:
            status = "405 Method Not Allowed" if path in ("/v1/chat/completions", "/v1/responses") else "404 Not Found"
            return f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        return head.encode() + body


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextlib.contextmanager
def scripted(scripts: Mapping[str, bytes], model: str = "odd-m") -> Iterator[int]:
    """Its port; the header x-script of a POST names the answer, which is the one of "" without that header."""
    with _Server((LOOPBACK, 0), _Talk) as server:
        server.scripts = scripts  # type: ignore[attr-defined]
        server.models = json.dumps({"object": "list", "data": [{"id": model, "object": "model"}]}).encode()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
