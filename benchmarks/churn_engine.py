"""Engines on every loopback address, one process: pods of a cluster that come, go and crash, as standard input says.

`dead ADDRESS` resets what runs there and refuses what comes; `alive ADDRESS` ends that.
"""

import argparse
import asyncio
import sys

import uvloop

from benchmarks.engine import EngineConnection


class Pods:
    """Who is dead, and the connections of who is not."""

    def __init__(self) -> None:
        self._dead: set[str] = set()
        self._open: dict[str, set[asyncio.BaseTransport]] = {}

    def take(self, line: str) -> None:
        """Obey one line."""
        word, _, address = line.strip().partition(" ")
        if word == "alive":
            self._dead.discard(address)
        elif word == "dead":
            self._dead.add(address)
            for transport in self._open.pop(address, set()):
                transport.abort()  # type: ignore[attr-defined]

    def came(self, address: str, transport: asyncio.BaseTransport) -> bool:
        """Whether an engine listens there."""
        if address in self._dead:
            return False
        self._open.setdefault(address, set()).add(transport)
        return True

    def went(self, address: str, transport: asyncio.BaseTransport) -> None:
        """A connection is over."""
        self._open.get(address, set()).discard(transport)


class PodConnection(EngineConnection):
    """A connection to one pod."""

    def __init__(self, pods: Pods) -> None:
        super().__init__()
        self._pods = pods
        self._address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuse for the dead."""
        super().connection_made(transport)
        self._address = transport.get_extra_info("sockname")[0]
        if not self._pods.came(self._address, transport):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._pods.went(self._address, self._transport)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    pods = Pods()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    server = await loop.create_server(lambda: PodConnection(pods), "0.0.0.0", port, backlog=4096)
    async with server:
        while line := await reader.readline():
            pods.take(line.decode())


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    uvloop.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
