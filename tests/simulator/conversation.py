"""Requests that most tests send."""

import json
from typing import Any

import aiohttp

from aibrix_extproc.simulator.server import Simulator

HELLO: dict[str, Any] = {"model": "sim-model", "messages": [{"role": "user", "content": "hello"}]}
STREAM: dict[str, Any] = {**HELLO, "stream": True}


def chat_url(sim: Simulator) -> str:
    return f"{sim.url}/v1/chat/completions"


async def post(
    http: aiohttp.ClientSession, url: str, body: object, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """The status and the JSON of an answer."""
    async with http.post(url, json=body, headers=headers) as response:
        return response.status, await response.json()


def events(raw: bytes) -> list[Any]:
    """The payloads of an event stream; the end marker stays text."""
    assert raw.endswith(b"\n\n")
    found = []
    for block in raw.decode().removesuffix("\n\n").split("\n\n"):
        data = next(line for line in block.split("\n") if line.startswith("data: ")).removeprefix("data: ")
        found.append(data if data == "[DONE]" else json.loads(data))
    return found
