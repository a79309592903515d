"""The cheapest engine there can be: prepared answers, no parsing beyond where a request ends.

Answers differ from one another, as real ones do: to Lua, equal ones would be one string and nearly equal ones collide
in its table of strings, both at another price than a real answer's.

One process listens on several ports, so that a fleet of engines costs no more than one. What it streams is told by a
header of the request (`stream;chunks=500;pace_ms=2`).
"""

import argparse
import asyncio
import json
import random
from collections.abc import Iterator
from functools import cache
from itertools import cycle
from typing import Final, cast

import uvloop

from benchmarks.wire import CHAT_PATH, MODEL, REPLY_HEADER

_CHAT: Final = b"POST " + CHAT_PATH.encode()
_REPLY_MARK: Final = f"\r\n{REPLY_HEADER}: ".encode()
_LENGTH_MARK: Final = b"\r\ncontent-length: "


def json_reply(status: str, content: object) -> bytes:
    """A whole reply with a JSON body."""
    body = json.dumps(content, separators=(",", ":")).encode()
    head = f"HTTP/1.1 {status}\r\nserver: uvicorn\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(content: object) -> bytes:
    return _chunk(b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n")


_DIFFERENT: Final = 512


def _chat_reply(rng: random.Random, size: int = 0) -> bytes:
    """A reply whose body has about this many bytes, at least 600."""
    count = max(size - 264, 336) // 7
    words = " ".join("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(count))
    message = {"role": "assistant", "content": words}
    return json_reply(
        "200 OK",
        {
            "id": f"chatcmpl-{rng.getrandbits(128):032x}",
            "object": "chat.completion",
            "created": 1750000000,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 200, "completion_tokens": 80, "total_tokens": 280},
        },
    )


@cache
def _chat_replies(size: int = 0) -> Iterator[bytes]:
    rng = random.Random(1)
    return cycle([_chat_reply(rng, size) for _ in range(_DIFFERENT if size < 10_000 else _DIFFERENT // 8)])


_CHAT_REPLIES: Final = _chat_replies()
_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_TOKEN: Final = _event(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1750000000,
        "model": MODEL,
        "choices": [{"index": 0, "delta": {"content": " token"}, "logprobs": None, "finish_reason": None}],
    }
)
_LAST: Final = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
_GETS: Final = {
    b"GET /health ": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    b"GET /v1/models ": json_reply(
        "200 OK",
        {
            "object": "list",
            "data": [{"id": MODEL, "object": "model", "created": 1750000000, "owned_by": "bench", "root": MODEL}],
        },
    ),
}
_NOT_FOUND: Final = json_reply("404 Not Found", {"detail": "Not Found"})


class EngineConnection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._head = b""
        self._missing = 0
        self._plan = ""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class, no asyncio.Transport

    def data_received(self, data: bytes) -> None:
        """Answer as soon as the request's last byte is here; its body is only counted."""
        if self._missing:
            self._missing -= len(data)
        else:
            data = self._head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                return
            self._head = b""
            if not data.startswith(_CHAT):
                self._transport.write(next((v for k, v in _GETS.items() if data.startswith(k)), _NOT_FOUND))
                return
            head = data[: end + 2].lower()
            self._plan = _value(head, _REPLY_MARK)
            self._missing = int(_value(head, _LENGTH_MARK)) - (len(data) - end - 4)
        if self._missing <= 0:
            self._missing = 0
            self._answer()

    def _answer(self) -> None:
        kind, *options = self._plan.split(";")
        if not kind:
            self._transport.write(next(_CHAT_REPLIES))
            return
        plan = dict(option.split("=") for option in options)
        if kind == "whole":
            self._transport.write(next(_chat_replies(int(plan["bytes"]))))
            return
        self._transport.write(_STREAM_HEAD)
        self._stream(int(plan["chunks"]), float(plan.get("pace_ms", 0)) / 1000)

    def _stream(self, left: int, pace: float) -> None:
        if self._transport.is_closing():
            return
        if left == 0:
            self._transport.write(_LAST)
            return
        self._transport.write(_TOKEN)  # one event a write and a loop turn, as an engine emits them
        if pace:
            self._loop.call_later(pace, self._stream, left - 1, pace)
        else:
            self._loop.call_soon(self._stream, left - 1, pace)


def _value(head: bytes, mark: bytes) -> str:
    return head.partition(mark)[2].partition(b"\r\n")[0].decode()


async def _serve(ports: list[int]) -> None:
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(EngineConnection, "127.0.0.1", port, backlog=4096)
    await loop.create_future()


def main() -> None:
    """Serve on the given ports until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ports", nargs="+", type=int)
    uvloop.run(_serve(parser.parse_args().ports))


if __name__ == "__main__":
    main()
