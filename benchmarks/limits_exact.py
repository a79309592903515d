"""Whether limits are exact over gateways: `python -m benchmarks.limits_exact`.

Three `serve` processes behind one Envoy, with one Redis; one key with 600 requests a minute; 1,000 requests a second
offered. Redis is killed at a time that the seed chooses, and started again, empty, up to four seconds later. Accepted
requests are compared with what one bucket allows, as far as the client can tell when a gateway decided: between sending
and answer. `most` and `least` bound it over the whole run; `burst` is the most that any part of the run has too much.
"""

import argparse
import asyncio
import math
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from aibrix_extproc.core.access.holders import digest_of
from benchmarks.wire import ReplyReader
from tests.dataplane.engines import EngineSpec
from tests.dataplane.stack import Stack, Worker, running
from tests.redis_server import RedisServer, redis_server
from tests.waiting import eventually, until

GATEWAYS: Final = 3
AMOUNT: Final = 600  # a minute
RATE: Final = AMOUNT / 60
OFFERED: Final = 1000
CONNECTIONS: Final = 64
KEY: Final = "sk-exact-0123456789abcdef"
BODY: Final = b'{"model":"chat-m","messages":[{"role":"user","content":"hello"}],"max_tokens":1}'
REQUEST: Final = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nAuthorization: Bearer %b\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (KEY.encode(), len(BODY), BODY)
)


class Seen(NamedTuple):
    """One request: times by the monotonic clock."""

    sent: float
    answered: float
    status: int


class Client(asyncio.Protocol):
    """One connection; idle ones wait in `idle`."""

    def __init__(self, idle: "list[Client]", seen: list[Seen]) -> None:
        self._idle, self._seen = idle, seen
        self._reader, self._sent = ReplyReader(), 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._idle.append(self)

    def send(self) -> None:
        """Ask once."""
        self._sent = time.monotonic()
        self.transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        reply = self._reader.feed(data)
        if reply is not None:
            self._seen.append(Seen(self._sent, time.monotonic(), reply.status))
            self._idle.append(self)


async def offered(port: int, redis: RedisServer, seconds: float, killed: float, started: float) -> list[Seen]:
    """What each request got."""
    loop = asyncio.get_running_loop()
    idle: list[Client] = []
    seen: list[Seen] = []
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Client(idle, seen), "127.0.0.1", port)
    began, sent = time.monotonic(), 0
    outages = [(killed, redis.stop), (started, redis.start)]
    while (passed := time.monotonic() - began) < seconds:
        if outages and passed > outages[0][0]:
            loop.run_in_executor(None, outages.pop(0)[1])
        while sent < passed * OFFERED and idle:
            idle.pop().send()
            sent += 1
        await asyncio.sleep(0.001)
    await until(lambda: len(seen) == sent, "all are answered")
    for one in idle:
        one.transport.close()
    return seen


def judged(seen: list[Seen]) -> tuple[int, int, float]:
    """How many the bucket may have accepted at most, and at least, and by how much a part of the run has too many."""
    accepted = sorted((one for one in seen if one.status == 200), key=lambda one: one.answered)
    refused = max(one.sent for one in seen if one.status == 429)
    first_sent = min(one.sent for one in accepted)
    most = AMOUNT + math.floor((accepted[-1].answered - first_sent) * RATE)
    least = AMOUNT + math.ceil((refused - accepted[0].answered) * RATE - 1)
    burst, lowest = 0.0, math.inf
    for index, one in enumerate(accepted):
        lowest = min(lowest, index - one.sent * RATE)
        burst = max(burst, index + 1 - one.answered * RATE - lowest - AMOUNT)
    return most, least, burst


def run(seed: int, seconds: float, folder: Path) -> bool:
    """Print the figures of one seed; whether the limit was exact."""
    digest = digest_of(KEY).hex()
    (folder / "keys.yaml").write_text(
        f"callers: [{{name: a, keys: [{{hash: 'sha256:{digest}', id: k}}], limits: {{requests_per_minute: {AMOUNT}}}}}]"
    )
    with redis_server() as redis:
        arguments = ("--key-file", str(folder / "keys.yaml"), "--redis", redis.url, "--redis-timeout-ms", "1000")
        stack = Stack(
            folder, (EngineSpec("chat", ("chat-m",)),), api_keys=("sk-free",), serve_arguments=arguments,
            workers_wanted=GATEWAYS,
        )  # fmt: skip
        with running(stack):
            eventually(lambda: all(map(_knows_all, stack.workers)), "gateways know each other")
            dice = random.Random(seed)
            killed = seconds * (0.2 + 0.4 * dice.random())
            seen = asyncio.run(offered(stack.port, redis, seconds, killed, killed + 4 * dice.random()))
            alone = int(sum(one.total("aibrix_extproc_limits_admitted_alone") for one in stack.workers))
    statuses = Counter(one.status for one in seen)
    accepted, (most, least, burst) = statuses[200], judged(seen)
    others = {status: count for status, count in statuses.items() if status not in (200, 429)}
    sys.stdout.write(
        f"seed {seed}: offered {len(seen) / seconds:.0f}/s, accepted {accepted}, most {most}, least {least},"
        f" burst {burst:.2f}, without Redis {alone}, other answers {others}\n"
    )
    sys.stdout.flush()
    return least <= accepted <= most and not burst


def _knows_all(worker: Worker) -> bool:
    report = worker.admin("/readyz").json()["limits"]
    return bool(report["counters"] == "redis" and report["gateways"] == GATEWAYS)


def main() -> None:
    """Print a line for each seed; the exit code is 1 if one is not exact."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=40.0, help="length of a run")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        exact = []
        for seed in range(chosen.seeds):
            (of := Path(folder) / str(seed)).mkdir()
            exact.append(run(seed, chosen.seconds, of))
    raise SystemExit(not all(exact))


if __name__ == "__main__":
    main()
