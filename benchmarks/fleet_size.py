"""What costs more in a larger fleet, and what does not: decisions, changes of health, and engines that are idle.

`python -m benchmarks.fleet_size` prints a table; `--idle 1000` also polls so many engines for a minute.
"""

import argparse
import asyncio
import gc
import multiprocessing
import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from aibrix_extproc.adapters.engine.poller import EnginePoller
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.memory import keep_freed_memory
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint, Health, ServedModel
from aibrix_extproc.core.fleet.reduce import Listed, Observed
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.placing import Caller, RouteQuery
from aibrix_extproc.core.routing.owners import ResponseOwners
from aibrix_extproc.core.routing.place import Decision, Placer, Ranking
from aibrix_extproc.core.routing.registry import STRATEGIES
from aibrix_extproc.core.routing.request import Place
from aibrix_extproc.core.routing.signals import SignalSources

SIZES: Final = (4, 100, 1000, 5000)
MIXES: Final = (*STRATEGIES, "least-request:2,random:1")
SETTLE_SECONDS: Final = 45.0  # until all engines have been well for long
IDLE_SECONDS: Final = 20.0
_MODEL: Final = "chat-m"
_SERVED: Final = (ServedModel(_MODEL),)
_HELD: Final = 64  # exchanges that run at any time
_SERIES: Final = 20  # decisions that are timed together; the best series counts, since what disturbs only adds


def endpoints(size: int, port: int = 8000) -> tuple[Endpoint, ...]:
    """So many, each with an address of its own on this machine."""
    return tuple(
        Endpoint(f"engine-{number:05}", f"127.1.{number // 250}.{number % 250 + 1}:{port}", models=_SERVED)
        for number in range(size)
    )


def a_fleet(size: int) -> FleetStore:
    """A store with endpoints that nobody has asked yet."""
    store = FleetStore(["bench"])
    store.apply(Listed("bench", endpoints(size)))
    return store


def turn_ready(store: FleetStore) -> float:
    """Let all endpoints become ready, one by one; milliseconds of CPU for all of them."""
    seen = [Observed(one.identity, Health.READY, models=_SERVED) for one in store.askable]
    started = time.process_time()
    for one in seen:
        store.apply(one)
    return (time.process_time() - started) * 1e3


def decision(store: FleetStore, mix: str, rounds: int) -> float:
    """Microseconds of a decision and of counting its exchange in and another one out."""
    book, held = LoadBook(), deque[str]()
    placer = Placer(SignalSources(book, random.random), ResponseOwners([b"bench"]), Ranking(mix), time.time)
    chat = next(row for row in OPERATIONS if row.id == "chat_completion")
    asks = [Place(chat, RouteQuery(_MODEL, session=f"session-{number}"), None, Caller("me")) for number in range(64)]

    def exchange(ask: Place) -> None:
        decided = placer.place(ask, store.snapshot)
        assert isinstance(decided, Decision)
        held.append(decided.placement.first.identity)
        book.acquire(held[-1])
        if len(held) > _HELD:
            book.release(held.popleft())

    return min(_series(exchange, asks) for _ in range(rounds)) / _SERIES * 1e6


def _series(exchange: Callable[[Place], None], asks: list[Place]) -> float:
    started = time.process_time()
    for number in range(_SERIES):
        exchange(asks[number % len(asks)])
    return time.process_time() - started


async def idle(engines: int) -> float:
    """The share of a core that it takes to watch engines that do nothing."""
    ports: multiprocessing.Queue[int] = multiprocessing.Queue()
    server = multiprocessing.get_context("fork").Process(target=_serve_engines, args=(ports,), daemon=True)
    server.start()
    try:
        store = FleetStore(["bench"])
        store.apply(Listed("bench", endpoints(engines, ports.get(timeout=60))))
        poller = EnginePoller(lambda: store.askable, store.apply)
        watching = asyncio.ensure_future(poller.run())
        await store.wait_known()
        await asyncio.sleep(SETTLE_SECONDS)
        began, started = time.perf_counter(), time.process_time()
        await asyncio.sleep(IDLE_SECONDS)
        share = (time.process_time() - started) / (time.perf_counter() - began)
        watching.cancel()
        return share
    finally:
        server.terminate()


def _serve_engines(ports: "multiprocessing.Queue[int]") -> None:
    asyncio.run(_engines(ports))


async def _engines(ports: "multiprocessing.Queue[int]") -> None:
    body = b'{"object":"list","data":[{"id":"%s","object":"model"}]}' % _MODEL.encode()
    found = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    missing = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1]
                writer.write(found if path in (b"/health", b"/v1/models") else missing)
        writer.close()

    server = await asyncio.start_server(answer, "0.0.0.0", 0, backlog=4096)
    ports.put(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet_size", description=__doc__)
    parser.add_argument("--idle", type=int, default=0, metavar="ENGINES", help="poll so many engines for a minute")
    parser.add_argument("--rounds", type=int, default=300)
    args = parser.parse_args()
    keep_freed_memory()
    stores = {size: a_fleet(size) for size in SIZES}
    gc.disable()
    print(f"{'endpoints':28}" + "".join(f"{size:>10}" for size in SIZES))
    ready = [turn_ready(store) * 1e3 / size for size, store in stores.items()]
    print(f"{'us a change of health':28}" + "".join(f"{us:10.1f}" for us in ready))
    for mix in MIXES:
        rounds = max(20, args.rounds // 10) if ":" in mix else args.rounds
        took = [decision(store, mix, rounds) for store in stores.values()]
        print(f"{'us ' + mix:28}" + "".join(f"{us:10.1f}" for us in took) + f"   x{took[-1] / took[0]:.2f}")
    if args.idle:
        gc.enable()
        share = asyncio.run(idle(args.idle))
        print(f"{'idle engines':28}{args.idle:10}   {share:.1%} of a core")


if __name__ == "__main__":
    main()
