"""Deployments as bad as a test wants them: a real HTTP server that answers every request by one function."""

import contextlib
import http.server
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from aibrix_extproc.conformance.case import Need
from aibrix_extproc.conformance.target import Card, Deployment, Target, origin_of

Reply = tuple[int, Mapping[str, str], bytes | Iterator[bytes]]  # pieces go out one by one, without a length
Script = Callable[[str, str], Reply]  # method and path


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        script: Script = self.server.script  # type: ignore[attr-defined]
        status, headers, body = script(self.command, self.path)
        self.send_response(status)
        length = {"content-length": str(len(body))} if isinstance(body, bytes) else {}
        for name, value in {**length, "connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        with contextlib.suppress(OSError):
            for piece in [body] if isinstance(body, bytes) else body:
                self.wfile.write(piece)

    do_GET = do_POST = do_DELETE = do_HEAD = do_OPTIONS = do_PUT = _answer  # noqa: N815

    def log_message(self, *_args: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_args: Any) -> None:
        pass  # clients that go away are the tests' business


@contextlib.contextmanager
def deployment(script: Script) -> Iterator[str]:
    """Its base URL."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.script = script  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """The base URL of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"


def a_target(base_url: str = "http://127.0.0.1:1/v1", **fields: Any) -> Target:
    defaults: dict[str, Any] = {
        "origin": origin_of(base_url), "seconds": 60.0, "streams": 4, "body_limit_mib": 2,
        "admin_key": "admin", "lora_path": "/adapters/a",
    }  # fmt: skip
    return Target(**defaults | fields)


def a_deployment(**fields: Any) -> Deployment:
    """One that has everything."""
    kinds = (Need.CHAT, Need.SECOND, Need.EMBEDDING, Need.RERANK, Need.TRANSCRIPTION, Need.LORA)
    models = {need: f"org/{need.name.lower()}" for need in kinds}
    models[Need.RESPONSES] = models[Need.CHAT]
    defaults: dict[str, Any] = {
        "wants_key": True,
        "cards": tuple(Card(model) for model in models.values()),
        "models": MappingProxyType(models),
        "serves": MappingProxyType({models[Need.CHAT]: frozenset({Need.CHAT, Need.RESPONSES})}),
        "contexts": MappingProxyType({models[Need.CHAT]: 100}),
        "apis": frozenset({Need.FILES, Need.UPLOADS, Need.BATCHES}),
    }
    return Deployment(**defaults | fields)
