"""Remembers the last requests, so that tests can assert what the engine saw."""

import hashlib
from collections import deque
from dataclasses import dataclass
from itertools import islice


@dataclass(slots=True)
class RecordedRequest:
    """One request as it arrived."""

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body_bytes: int
    body_sha256: str
    body: bytes
    """Cut to the recorder's limit."""
    connection: str
    """The peer's address and port: equal for requests on one connection."""
    fault: str | None = None
    status: int | None = None
    """None until it is answered, and for ever if it never was."""

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)

    def describe(self, with_body: bool) -> dict[str, object]:
        """The request as the admin route shows it."""
        shown: dict[str, object] = {name: getattr(self, name) for name in self.__slots__ if name != "body"}
        if with_body:
            shown["body"] = self.body.decode("utf-8", "replace")
        return shown


class Recorder:
    """A bounded list of requests, newest last; a capacity of 0 records nothing and costs nothing."""

    def __init__(self, capacity: int, kept_body_bytes: int) -> None:
        self.capacity = capacity
        self._kept_body_bytes = kept_body_bytes
        self._requests: deque[RecordedRequest] = deque(maxlen=capacity)

    def record(
        self, method: str, path: str, query: str, headers: list[tuple[str, str]], body: bytes, connection: str
    ) -> RecordedRequest | None:
        """Remember a request."""
        if not self.capacity:
            return None
        digest = hashlib.sha256(body).hexdigest()
        kept = body[: self._kept_body_bytes]
        request = RecordedRequest(method, path, query, headers, len(body), digest, kept, connection)
        self._requests.append(request)
        return request

    def recent(self, path: str = "", limit: int | None = None) -> list[RecordedRequest]:
        """The last requests below a path, newest last."""
        found = (request for request in reversed(self._requests) if request.path.startswith(path))
        return list(islice(found, limit))[::-1]

    def clear(self) -> None:
        """Forget all requests."""
        self._requests.clear()
