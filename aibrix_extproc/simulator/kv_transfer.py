"""The KV cache of a prompt on its way from a prefill engine to a decode engine, as vLLM's NIXL connector does it.

A prefill engine keeps the blocks of a request with `do_remote_decode` until they are read, or until its lease ends. A
decode engine reads them over what `remote_host` and `remote_port` name: here a route of the prefill engine. One that it
cannot reach fails the request, as by vLLM's default `kv_load_failure_policy`, and so do parameters that lack something
(vLLM 0.32 ends with these). Blocks that are gone fail it, too, where vLLM reads whatever has taken their place.
"""

import asyncio
import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

from aibrix_extproc.simulator.errors import EngineError
from aibrix_extproc.simulator.options import SimulatorOptions

READ_PATH: Final = "/kv_blocks"
_READ_SECONDS: Final = 5.0
_MAX_ANSWER: Final = 4096
_NEEDED: Final = ("remote_block_ids", "remote_engine_id", "remote_request_id", "remote_host", "remote_port")


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A prompt that need not be computed."""

    cached_tokens: int | None  # that the prefill engine had in its cache


class Transfers:
    """What one engine keeps for others, and what it reads of them."""

    def __init__(self, options: SimulatorOptions) -> None:
        self._options = options
        self._kept: OrderedDict[str, float] = OrderedDict()  # by request: when its lease ends
        self.engine_id = str(uuid4())
        self.port = 0  # of this engine, once it listens
        self.received = 0

    @property
    def kept(self) -> int:
        """Requests whose blocks wait to be read."""
        self._forget()
        return len(self._kept)

    def offer(self, params: object, tokens: int, cached_tokens: int) -> dict[str, Any] | None:
        """Keep the blocks of a finished request for a decode engine; None if nobody wants them."""
        if not self._options.kv_connector or not isinstance(params, dict) or not params.get("do_remote_decode"):
            return None
        name = uuid4().hex
        self._kept[name] = time.monotonic() + self._options.kv_lease_seconds
        return {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_block_ids": [list(range(1, 1 + math.ceil(tokens / self._options.block_size)))],
            "remote_engine_id": self.engine_id,
            "remote_request_id": name,
            "remote_host": self._options.host,
            "remote_port": self.port,
            "tp_size": 1,
            "dcp_size": 1,
            "pp_size": 1,
            "remote_num_tokens": tokens,
            "remote_blocks_expiry_time": None,
            "transfer_mode": "pull",
            "remote_prefill_cached_tokens": cached_tokens,
        }

    def hand_out(self, name: str) -> bool:
        """Somebody reads the blocks of a request, which are free then; false if they are not here."""
        self._forget()
        return self._kept.pop(name, None) is not None

    async def take_over(self, params: object, tokens: int) -> TakenOver | None:
        """Read the blocks that a request names; None if it names none. Raises EngineError if they are not there."""
        if not self._options.kv_connector or not isinstance(params, dict) or not params.get("do_remote_prefill"):
            return None
        if any(params.get(name) is None for name in _NEEDED):
            raise EngineError(500, "InternalServerError", "EngineCore encountered an issue.")
        host, port, name = params["remote_host"], params["remote_port"], params["remote_request_id"]
        if not await _is_read(str(host), port, quote(str(name), safe="")):
            raise EngineError(500, "InternalServerError", "Internal server error")
        await asyncio.sleep(tokens * self._options.kv_transfer_us_per_token / 1e6)
        self.received += 1
        cached = params.get("remote_prefill_cached_tokens")
        return TakenOver(cached if isinstance(cached, int) else None)

    def _forget(self) -> None:
        now = time.monotonic()
        while self._kept and next(iter(self._kept.values())) <= now:
            self._kept.popitem(last=False)


async def _is_read(host: str, port: object, name: str) -> bool:
    """Whether an engine had the blocks of this request."""
    try:
        async with asyncio.timeout(_READ_SECONDS):
            reader, writer = await asyncio.open_connection(host, int(str(port)))
            try:
                writer.write(
                    f"POST {READ_PATH}/{name} HTTP/1.0\r\ncontent-length: 0\r\n\r\n".encode("ascii", "replace")
                )
                status = await reader.read(_MAX_ANSWER)
            finally:
                writer.close()
    except (OSError, ValueError):  # TimeoutError is one of them
        return False
    return status.split(b" ", 2)[1:2] == [b"200"]
