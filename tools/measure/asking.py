"""Sends requests to the gateway and remembers the answers."""

import http.client
import json
import sys
from typing import Any, Final
from urllib.parse import urlsplit

from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from tools.measure.judge import Answer, read
from tools.measure.plan import FORMS
from tools.samples.files import recording

Json = dict[str, Any]

PATHS: Final = {row.id: row.path for row in OPERATIONS}
_BOUNDARY: Final = "measured"
_SECONDS: Final = 120.0
_UNAVAILABLE: Final = (503, 504)


class EngineLost(Exception):
    """The engine has ended, or hangs for good. Measure the rest at another one with `--missing`."""


class Asker:
    """Asks one address with one key. The same request is sent once."""

    def __init__(self, url: str, key: str) -> None:
        self._where = urlsplit(url).netloc
        self._key = key
        self._connection = http.client.HTTPConnection(self._where, timeout=_SECONDS)
        self._answers: dict[tuple[str, bytes], Answer] = {}
        self._good: tuple[str, bytes] | None = None  # the last request that was answered well
        self.asked = 0

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(self, operation: str, body: Json, *, again: bool = False) -> Answer:
        """The answer to a request. EngineLost: no engine answers any more."""
        sent = _form(body) if operation in FORMS else json.dumps(body).encode()
        known = self._answers.get((operation, sent))
        if known is not None and not again:
            return known
        answer = self._sent(operation, sent)
        if answer is None:  # an engine that does not end is a result, too
            print(f"{operation}: no answer to {sent[:500]!r}", file=sys.stderr, flush=True)
            answer = Answer(504, {"error": {"code": "no_answer"}})
        if answer.status in _UNAVAILABLE and self._good is not None:
            after = self._sent(*self._good)
            if after is None or after.status in _UNAVAILABLE:
                raise EngineLost(f"no answer to anything after {operation} {sent[:500]!r}: {answer.error}")
        elif answer.good:
            self._good = operation, sent
        self._answers[operation, sent] = answer
        return answer

    def _sent(self, operation: str, body: bytes) -> Answer | None:
        """Send a request; None if no answer comes in time."""
        self.asked += 1
        kind = f"multipart/form-data; boundary={_BOUNDARY}" if operation in FORMS else "application/json"
        try:
            response = self._response(PATHS[operation], body, kind)
            return read(response.status, response.getheader("content-type", ""), response.read())
        except TimeoutError:
            self._connection.close()
            return None

    def _response(self, path: str, body: bytes, kind: str) -> http.client.HTTPResponse:
        headers = {"content-type": kind, "authorization": f"Bearer {self._key}"}
        try:
            self._connection.request("POST", path, body, headers)
            return self._connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):  # an idle connection was closed
            self._connection.close()
            self._connection.request("POST", path, body, headers)
            return self._connection.getresponse()


def _form(body: Json) -> bytes:
    parts = []
    for name, value in body.items():
        for one in value if isinstance(value, list) else [value]:
            field = f"{name.removesuffix('[]')}[]" if isinstance(value, list) else name
            parts.append(f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{one}\r\n'.encode())
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    return b"".join((*parts, head.encode(), recording(), f"\r\n--{_BOUNDARY}--\r\n".encode()))
