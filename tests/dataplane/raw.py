"""HTTP/1.1 as bytes, for what no SDK would send: header lists keep their duplicates, bodies may be iterators."""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LOOPBACK = "127.0.0.1"
JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    headers: tuple[tuple[str, str], ...]  # names in lower case
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key == name]

    def header(self, name: str) -> str | None:
        """The only value of a header."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times: {values}"
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)


def send(
    port: int,
    method: str,
    path: str,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    body: bytes | Iterable[bytes] | None = None,
    *,
    timeout: float = 60.0,
) -> Answer:
    """One request on a connection of its own; an iterable body goes out chunked."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout)
    try:
        return exchange(connection, method, path, headers, body)
    finally:
        connection.close()


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    body: bytes | Iterable[bytes] | None = None,
) -> Answer:
    """One request on a given connection; nothing is added to it but `host` and the framing of the body."""
    pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in pairs:
        connection.putheader(name, value)
    chunked = body is not None and not isinstance(body, bytes)
    if chunked:
        connection.putheader("transfer-encoding", "chunked")
    elif isinstance(body, bytes) and not any(name.lower() == "content-length" for name, _ in pairs):
        connection.putheader("content-length", str(len(body)))
    # Refused while we were still sending: the answer is there to be read.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.endheaders(body, encode_chunked=chunked)
    response = connection.getresponse()
    content = response.read()
    return Answer(response.status, tuple((name.lower(), value) for name, value in response.getheaders()), content)


def conversation(port: int, request: bytes, *, timeout: float = 60.0) -> bytes:
    """Send bytes, read until the peer closes."""
    with socket.create_connection((LOOPBACK, port), timeout=timeout) as connection:
        connection.sendall(request)
        return b"".join(_received(connection))


def _received(connection: socket.socket) -> Iterator[bytes]:
    while data := connection.recv(65536):
        yield data
