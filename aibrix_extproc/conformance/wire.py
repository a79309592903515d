"""HTTP/1.1 as bytes, for what no SDK would send: nothing is normalised, repeated headers stay visible.

Connects directly, never through a proxy of the environment: a proxy would be judged together with the deployment.
"""

import contextlib
import http.client
import json
import re
import select
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aibrix_extproc.conformance.case import Mismatch
from aibrix_extproc.conformance.target import Origin

SHOWN_BYTES: Final = 20_000  # of a body in a message; masked and cut shorter later
READ_BYTES: Final = 65_536
_STATUS_LINE: Final = re.compile(r"HTTP/1\.[01] (\d{3})(?: |$)")

Body = bytes | Iterable[bytes] | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    headers: tuple[tuple[str, str], ...]  # names in lower case
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key == name]

    def header(self, name: str) -> str:
        """A header's value, empty if it is absent; Mismatch if it is repeated."""
        values = self.all(name)
        if len(values) > 1:
            raise Mismatch(f"one {name} header", f"{len(values)}: {values}")
        return values[0] if values else ""

    def json(self) -> Any:
        """The body; Mismatch if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Mismatch("a JSON body", str(self)) from error

    def __str__(self) -> str:
        kind = next(iter(self.all("content-type")), "no content-type")
        text = self.body[:SHOWN_BYTES].decode(errors="replace")
        return f"{self.status} {kind}: {text or '(empty body)'}"


class Line:
    """One connection. `close` may be called from another thread and ends a read in progress."""

    def __init__(self, origin: Origin, seconds: float) -> None:
        self._connection = _connection(origin, seconds)
        self._connection.connect()
        self._connection.auto_open = 0  # a connection that the peer has closed stays closed
        self.socket: socket.socket = self._connection.sock

    @property
    def is_open(self) -> bool:
        """Whether the peer left it open after the last answer."""
        return self._connection.sock is not None

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Body = None,
        on_data: Callable[[bytes], object] = len,
    ) -> Answer:
        """One request; only `host` and the framing of the body are added. An iterable body goes out chunked.

        `on_data` sees the answer's body as it comes.
        """
        self._connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            self._connection.putheader(name, value)
        chunked = body is not None and not isinstance(body, bytes)
        if chunked:
            self._connection.putheader("transfer-encoding", "chunked")
        elif isinstance(body, bytes) and "content-length" not in headers:
            self._connection.putheader("content-length", str(len(body)))
        # Refused while we were still sending: the answer is there to be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.endheaders(self._until_answered(body), encode_chunked=chunked)
        response = self._connection.getresponse()
        parts = []
        while data := response.read1(READ_BYTES):
            on_data(data)
            parts.append(data)
        if response.length:  # read1 takes a body cut short for its end
            raise http.client.IncompleteRead(b"".join(parts), response.length)
        response.read()  # of nothing: frees the connection for the next request
        received_headers = tuple((name.lower(), value) for name, value in response.getheaders())
        return Answer(response.status, received_headers, b"".join(parts))

    def _until_answered(self, body: Body) -> Body:
        if body is None or isinstance(body, bytes):
            return body
        return self._pieces(body)

    def _pieces(self, body: Iterable[bytes]) -> Iterator[bytes]:
        for piece in body:
            if select.select([self.socket], [], [], 0)[0]:
                return
            yield piece

    def close(self) -> None:
        """End it, whatever it is doing."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def received(wire: socket.socket) -> bytes:
    """What comes until the peer closes."""
    parts = []
    while data := wire.recv(READ_BYTES):
        parts.append(data)
    return b"".join(parts)


def parsed(answer: bytes) -> Answer:
    """A response that was read to its end on a raw connection; Mismatch if it is none."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    code = _STATUS_LINE.match(status)
    if not separator or not code:
        raise Mismatch("an HTTP/1 response", repr(answer[:200]))
    pairs = (line.partition(":") for line in lines)
    headers = tuple((name.strip().lower(), value.strip()) for name, _, value in pairs)
    if ("transfer-encoding", "chunked") in headers:
        body = _unchunked(body)
    return Answer(int(code[1]), headers, body)


def _unchunked(data: bytes) -> bytes:
    parts = []
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size.split(b";")[0] or b"0", 16)
        if not length:
            break
        parts.append(data[:length])
        data = data[length + 2 :]
    return b"".join(parts)


def _connection(origin: Origin, seconds: float) -> http.client.HTTPConnection:
    if not origin.is_secure:
        return http.client.HTTPConnection(origin.host, origin.port, timeout=seconds)
    context = ssl.create_default_context()
    if not origin.verifies_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(origin.host, origin.port, timeout=seconds, context=context)
