"""What one case works with: raw requests and SDK clients that all end with the case, or with its time."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from aibrix_extproc.conformance import sdk
from aibrix_extproc.conformance.case import Mismatch, Need
from aibrix_extproc.conformance.target import Deployment, Target
from aibrix_extproc.conformance.wire import Answer, Body, Line, parsed, received

JSON: Final[Mapping[str, str]] = {"content-type": "application/json"}
NO_KEY: Final = "unused"  # what the SDK gets where no key is asked for
LEAST_SECONDS: Final = 0.05


class Bench:
    """The deployment, as one case sees it."""

    def __init__(self, target: Target, deployment: Deployment, seconds: float) -> None:
        self.target = target
        self.deployment = deployment
        self._ends_at = time.monotonic() + seconds
        self._open: list[Any] = []
        self._lock = threading.Lock()

    @property
    def seconds_left(self) -> float:
        """Until the case must end."""
        return max(self._ends_at - time.monotonic(), LEAST_SECONDS)

    def model(self, need: Need = Need.CHAT) -> str:
        """The model for a kind of request; the case must have named the need."""
        return self.deployment.models[need]

    # --- raw

    def send(
        self, method: str, path: str, body: Body = None, headers: Mapping[str, str] | None = None, *, key: bool = True
    ) -> Answer:
        """One request on a connection of its own, with the key unless told otherwise; these headers come on top."""
        with self.line() as line:
            return line.ask(method, self.path(path), self.headers(headers, key=key), body)

    def post(self, path: str, value: object, headers: Mapping[str, str] | None = None, *, key: bool = True) -> Answer:
        """A JSON body."""
        return self.send("POST", path, json.dumps(value).encode(), {**JSON, **(headers or {})}, key=key)

    def chat(self, fields: Mapping[str, object] | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """A short chat completion with these fields on top."""
        return self.post("/v1/chat/completions", self.chat_body(fields), headers)

    def chat_body(self, fields: Mapping[str, object] | None = None) -> dict[str, Any]:
        """The body of that request."""
        hello = [{"role": "user", "content": "Say hello."}]
        return {"model": self.model(), "messages": hello, "max_tokens": 8, **(fields or {})}

    def chat_bytes(self, fields: Mapping[str, object] | None = None) -> bytes:
        """The same as it goes over the wire."""
        return json.dumps(self.chat_body(fields)).encode()

    def headers(self, more: Mapping[str, str] | None = None, *, key: bool = True) -> dict[str, str]:
        """The key if there is one, and more."""
        own = {"authorization": f"Bearer {self.target.api_key}"} if key and self.target.api_key else {}
        return own | dict(more or {})

    def admin_headers(self) -> dict[str, str]:
        """The administrator's key; the case must have named the need."""
        return {"authorization": f"Bearer {self.target.admin_key}"}

    def path(self, path: str) -> str:
        """A path as this deployment wants it."""
        slashes = path[: len(path) - len(path.lstrip("/")) - 1]  # of //v1: they stand before the prefix
        return slashes + self.target.origin.prefix + path[len(slashes) :]

    @contextlib.contextmanager
    def line(self) -> Iterator[Line]:
        """A connection for several requests."""
        line = Line(self.target.origin, self.seconds_left)
        self._keep(line)
        try:
            yield line
        finally:
            line.close()

    def talk(self, request: bytes) -> Answer:
        """Send bytes as they are, read until the peer closes."""
        with self.line() as line:
            line.socket.sendall(request)
            try:
                answer = received(line.socket)
            except TimeoutError as error:
                raise Mismatch("an answer, and a closed connection behind it", "neither in time") from error
        return parsed(answer)

    def head(self, method: str, path: str, version: str = "1.1", **headers: str) -> bytes:
        """The head of a request for `talk`, with host and key; underscores in names stand for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{name}: {value}" for name, value in self.headers(named).items()]
        host = f"host: {self.target.origin.authority}"
        return "\r\n".join((f"{method} {self.path(path)} HTTP/{version}", host, *lines, "", "")).encode()

    # --- SDK

    def client(self, **options: Any) -> Any:
        """The SDK without retries; it is closed with the bench."""
        return self.counted_client(**options)[0]

    def counted_client(self, **options: Any) -> tuple[Any, list[object]]:
        """The SDK, and the list of HTTP requests that it makes."""
        calls: list[object] = []
        made = sdk.client(self.target.origin, self._options() | options, calls.append)
        self._keep(made)
        return made, calls

    def async_client(self, **options: Any) -> Any:
        """For `async with` inside a case."""
        return sdk.async_client(self.target.origin, self._options() | options)

    def _options(self) -> dict[str, Any]:
        return {"api_key": self.target.api_key or NO_KEY, "timeout": self.seconds_left}

    # --- end

    def _keep(self, thing: Any) -> None:
        with self._lock:
            self._open.append(thing)

    def close(self) -> None:
        """Close whatever the case left open; ends its reads if it is still running."""
        with self._lock:
            things, self._open = self._open, []
        for thing in things:
            thing.close()
