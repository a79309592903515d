"""HTTP/1.1 of the benchmarks, without I/O: the request an OpenAI SDK sends, and where a reply ends."""

import json
from dataclasses import dataclass
from typing import Final

MODEL: Final = "bench-model"
API_KEY: Final = "sk-bench-0123456789abcdef0123456789abcdef"
CHAT_PATH: Final = "/v1/chat/completions"
SMALL_BODY_BYTES: Final = 914
REPLY_HEADER: Final = "x-bench-reply"  # the reply that the engine is to give; a constant one otherwise

# What openai-python sends beside host and content-length, in its order.
SDK_HEADERS: Final = (
    ("Accept-Encoding", "gzip, deflate"),
    ("Connection", "keep-alive"),
    ("Accept", "application/json"),
    ("Content-Type", "application/json"),
    ("User-Agent", "OpenAI/Python 3.54.0"),
    ("X-Stainless-Lang", "python"),
    ("X-Stainless-Package-Version", "3.54.0"),
    ("X-Stainless-OS", "Linux"),
    ("X-Stainless-Arch", "x64"),
    ("X-Stainless-Runtime", "CPython"),
    ("X-Stainless-Runtime-Version", "3.11.9"),
    ("Authorization", f"Bearer {API_KEY}"),
    ("X-Stainless-Async", "false"),
    ("x-stainless-retry-count", "0"),
    ("x-stainless-read-timeout", "600"),
)
_END_OF_HEAD: Final = b"\r\n\r\n"
_END_OF_CHUNKS: Final = b"\r\n0\r\n\r\n"


def chat_body(size: int, *, stream: bool = False) -> bytes:
    """A chat request of exactly `size` bytes: the prompt, a plausible English text, is as long as it has to be."""
    request: dict[str, object] = {"model": MODEL, "temperature": 0.7, "max_tokens": 256}
    if stream:
        request["stream"] = True
    messages = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": ""}]
    empty = json.dumps({"messages": messages, **request}, separators=(",", ":"))
    missing = size - len(empty)
    if missing < 0:
        raise ValueError(f"a chat request needs at least {len(empty)} bytes")
    words = "The quick brown fox jumps over the lazy dog while seven wizards boil green tea. "
    messages[1]["content"] = (words * (missing // len(words) + 1))[:missing]
    return json.dumps({"messages": messages, **request}, separators=(",", ":")).encode()


def chat_request(body: bytes, reply: str = "") -> bytes:
    """The request on the wire. `reply` is passed to the engine in a header of its own."""
    extra = ((REPLY_HEADER, reply),) if reply else ()
    lines = [f"POST {CHAT_PATH} HTTP/1.1", "Host: 127.0.0.1", *(f"{k}: {v}" for k, v in (*SDK_HEADERS, *extra))]
    return "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode() + body


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply; `events` counts the `data:` lines of a stream."""

    status: int
    body: bytes
    events: int

    def problem(self, expected_events: int) -> str | None:
        """What is wrong with it, None if nothing is. A stream must be whole to its `[DONE]`."""
        if self.status != 200:
            return f"status {self.status}: {self.body[:200].decode('latin-1')}"
        if self.events != expected_events:
            return f"{self.events} events instead of {expected_events}"
        if expected_events and b"data: [DONE]" not in self.body[-64:]:
            return "a stream without [DONE]"
        return None


class ReplyReader:
    """Collects one reply after the other from a keep-alive connection."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._status = 0
        self._missing = 0  # bytes of a reply with content-length
        self._chunked = False

    def feed(self, data: bytes) -> Reply | None:
        """The reply that `data` completes, None while something is missing."""
        if self._status == 0:
            data = b"".join((*self._pieces, data))
            end = data.find(_END_OF_HEAD)
            if end < 0:
                self._pieces = [data]
                return None
            self._pieces = []
            self._read_head(data[:end].lower())
            # The CRLF before a chunk of size 0 may be the head's own, so it stays with the chunks.
            data = data[end + 2 :] if self._chunked else data[end + 4 :]
        self._pieces.append(data)
        if self._chunked:
            return self._finish() if self._tail().endswith(_END_OF_CHUNKS) else None
        self._missing -= len(data)
        return self._finish() if self._missing <= 0 else None

    def _read_head(self, head: bytes) -> None:
        self._status = int(head[9:12])
        _, found, rest = head.partition(b"\r\ncontent-length:")
        self._chunked = not found
        self._missing = int(rest.partition(b"\r\n")[0]) if found else 0

    def _tail(self) -> bytes:
        last = self._pieces[-1]
        return last if len(last) >= len(_END_OF_CHUNKS) else b"".join(self._pieces[-8:])

    def _finish(self) -> Reply:
        body = b"".join(self._pieces)
        reply = Reply(self._status, body, body.count(b"data: ") if self._chunked else 0)
        self._pieces, self._status = [], 0
        return reply
