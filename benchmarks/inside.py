"""Where the microseconds of our own Python go: the shipped wiring fed with Envoy's three messages, without gRPC.

Runs in one thread without a network, so it is steady where the rig is noisy; `python -m benchmarks.inside` prints it,
`--profile` adds what cProfile sees.
"""

import argparse
import asyncio
import cProfile
import itertools
import pstats
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from pydantic import SecretStr

from aibrix_extproc.adapters.extproc import decoding, encoding
from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import (
    HeaderMap,
    ProcessingMode,
    ProcessingRequest,
)
from aibrix_extproc.adapters.extproc.interfaces import Dispatcher
from aibrix_extproc.adapters.extproc.session import Session
from aibrix_extproc.app.gateway import Gateway
from aibrix_extproc.core.exchange import asks, events
from aibrix_extproc.core.exchange.asks import Ask
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import Continue, Fact, Output, Phase
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.fleet.model import Endpoint, Health, ServedModel
from aibrix_extproc.core.fleet.reduce import Listed
from aibrix_extproc.core.routing.registry import DEFAULT_STRATEGY
from aibrix_extproc.settings import AccessSettings, FleetSettings, Settings
from aibrix_extproc.settings.fleet import RoutingSettings
from benchmarks.cpu_profile import Profile, Step
from benchmarks.wire import API_KEY, CHAT_PATH, MODEL, SDK_HEADERS, chat_body

_ENGINES: Final = tuple(f"127.0.0.1:{port}" for port in range(9101, 9105))
SERIES: Final = 1000
OTHERS: Final = "libraries, and the caller"
CALLS: Final = 4  # half a millisecond: short enough to run undisturbed now and then on a busy machine
_REQUEST_ID: Final = "5e2d1c0b-9a8f-4e7d-8c6b-5a4938271605"


Messages = tuple[bytes, bytes, bytes]


def envoy_messages(body_bytes: int, served_by: str) -> Messages:
    """What Envoy sends for a chat completion: head, body, response head; serialised."""
    body = chat_body(body_bytes)
    head, whole, response = ProcessingRequest(), ProcessingRequest(), ProcessingRequest()
    _fill(head.request_headers.headers, _request_headers(len(body)))
    _attributes(head, {"request.id": _REQUEST_ID, "source.address": "127.0.0.1:54321"})
    head.protocol_config.request_body_mode = ProcessingMode.BodySendMode.BUFFERED
    whole.request_body.body = body
    whole.request_body.end_of_stream = True
    reply = ((":status", "200"), ("server", "uvicorn"), ("content-type", "application/json"), ("content-length", "630"))
    _fill(response.response_headers.headers, (*reply, ("x-envoy-upstream-service-time", "1")))
    _attributes(
        response,
        {
            "request.id": _REQUEST_ID,
            "request.path": CHAT_PATH,
            "response.code_details": "via_upstream",
            "upstream.address": served_by,
        },
    )
    response.attributes[decoding.ATTRIBUTES].fields["response.code"].number_value = 200
    response.attributes[decoding.ATTRIBUTES].fields["response.flags"].number_value = 0
    return head.SerializeToString(), whole.SerializeToString(), response.SerializeToString()


def _request_headers(length: int) -> Iterable[tuple[str, str]]:
    pseudo = ((":authority", "127.0.0.1"), (":path", CHAT_PATH), (":method", "POST"), (":scheme", "http"))
    added = (
        ("content-length", str(length)),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-request-id", _REQUEST_ID),
    )
    sent = ((name.lower(), value) for name, value in SDK_HEADERS if name != "Connection")
    return (*pseudo, *sent, *added)


def _fill(headers: HeaderMap, pairs: Iterable[tuple[str, str]]) -> None:
    for name, value in pairs:
        headers.headers.add(key=name, raw_value=value.encode())


def _attributes(message: ProcessingRequest, values: dict[str, str]) -> None:
    fields = message.attributes[decoding.ATTRIBUTES].fields
    for name, value in values.items():
        fields[name].string_value = value


class _Watch:
    """Adds up the time of calls by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def add(self, name: str, started: float) -> None:
        """One call that began at `started` is over."""
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


class _TimedDispatcher:
    """A dispatcher that notes how long the real one takes."""

    def __init__(self, dispatcher: Dispatcher, watch: _Watch) -> None:
        self._dispatcher = dispatcher
        self._watch = watch

    def answer(self, ask: Ask) -> asks.Answer:
        started = time.perf_counter()
        answer = self._dispatcher.answer(ask)
        self._watch.add(f"answer {type(ask).__name__}", started)
        assert isinstance(answer, asks.Admitted | asks.Described | asks.Placed | asks.Reserved | asks.Refused)
        return answer

    def observe(self, fact: Fact) -> None:
        started = time.perf_counter()
        self._dispatcher.observe(fact)
        self._watch.add(f"observe {type(fact).__name__}", started)

    def timed(self, phase: Phase, seconds: float) -> None:
        started = time.perf_counter()
        self._dispatcher.timed(phase, seconds)
        self._watch.add("observe time by phase", started)

    def bug(self) -> None:
        raise AssertionError("a bug while measuring")


class _TimedExchange:
    """An exchange that notes how long the real one takes, and keeps its replies."""

    def __init__(self, exchange: Exchange, watch: _Watch, replies: list[Continue]) -> None:
        self._exchange = exchange
        self._watch = watch
        self._replies = replies

    @property
    def policy(self) -> ExchangePolicy:
        return self._exchange.policy

    def receive(self, event: events.Event) -> tuple[Output, ...]:
        started = time.perf_counter()
        outputs = self._exchange.receive(event)
        self._watch.add("exchange machine", started)
        self._replies += [one for one in outputs if isinstance(one, Continue)]
        return outputs


class Bench:
    """The wiring that ships, and what Envoy would send to it."""

    def __init__(self, body_bytes: int, strategy: str = DEFAULT_STRATEGY) -> None:
        self.gateway = _gateway(strategy)
        self.dispatcher = self.gateway.dispatcher
        # Idle engines take turns, so the engines that answer do so too; else each exchange would count as retried.
        self._messages = itertools.cycle([envoy_messages(body_bytes, engine) for engine in _ENGINES])

    def next_messages(self) -> Messages:
        """What Envoy sends for the next exchange."""
        return next(self._messages)

    def receive(self, session: Session, message: bytes) -> None:
        """One message."""
        session.receive(ProcessingRequest.FromString(message))

    def exchange(self, session: Session) -> None:
        """One whole exchange."""
        for message in self.next_messages():
            self.receive(session, message)
        session.close(events.Cause.HALF_CLOSED)

    def shipped(self) -> None:
        """One exchange as it ships."""
        self.exchange(self.gateway.new_session())

    def timed(self, watch: _Watch) -> list[Continue]:
        """One exchange with a watch at every border; its replies."""
        replies: list[Continue] = []
        shipped: Any = self.gateway.new_session()._exchange
        exchange: object = _TimedExchange(shipped, watch, replies)
        self.exchange(Session(_TimedDispatcher(self.dispatcher, watch), exchange, time.perf_counter, str))  # type: ignore[arg-type]
        return replies


def _gateway(strategy: str) -> Gateway:
    """Never started, with a fleet of ready engines."""
    flags = tuple(f"http://{address}={MODEL}" for address in _ENGINES)
    gateway = Gateway(
        Settings(
            fleet=FleetSettings(endpoints=flags),
            access=AccessSettings(api_keys=(SecretStr(API_KEY),)),
            routing=RoutingSettings(strategy=strategy),
        )
    )
    served = (ServedModel(MODEL),)
    endpoints = tuple(Endpoint(one, one, models=served, health=Health.READY) for one in _ENGINES)
    gateway.store.apply(Listed("flags", endpoints))
    return gateway


def best(run: Callable[[], object]) -> float:
    """Microseconds of one call, the best of many short series: what disturbs only ever adds."""
    series = []
    for _ in range(SERIES):
        started = time.perf_counter()
        for _ in range(CALLS):
            run()
        series.append(time.perf_counter() - started)
    return min(series) / CALLS * 1e6


def measure(body_bytes: int) -> tuple[Step, ...]:
    """The parts of one exchange; the last one is the whole, measured by itself."""
    return asyncio.run(_measure(body_bytes))


async def _measure(body_bytes: int) -> tuple[Step, ...]:
    bench = Bench(body_bytes)
    raw = envoy_messages(body_bytes, _ENGINES[0])
    parsed = [ProcessingRequest.FromString(message) for message in raw]
    replies = bench.timed(_Watch())
    whole = best(bench.shipped)
    steps = [
        Step("parse protobuf", best(lambda: [ProcessingRequest.FromString(one) for one in raw])),
        Step("messages to events", best(lambda: _decode(parsed))),
        *_parts(bench),
        Step("replies to bytes", best(lambda: [encoding.encode(one) for one in replies])),
        Step("new session", best(bench.gateway.new_session)),
    ]
    rest = whole - sum(step.us for step in steps)
    return (*steps, Step("session and the rest (the difference)", rest), Step("whole exchange", whole))


def _parts(bench: Bench) -> Iterable[Step]:
    series = []
    for _ in range(SERIES):
        watch = _Watch()
        for _ in range(CALLS):
            bench.timed(watch)
        series.append(watch.seconds)
    for name in series[0]:
        yield Step(name, min(one[name] for one in series) / CALLS * 1e6)


def _decode(parsed: Sequence[ProcessingRequest]) -> None:
    for message in parsed:
        phase = decoding.phase_of(message)
        assert phase is not None
        decoding.decode(message, phase, 0.0, str)


def profile_by_module(body_bytes: int) -> Profile:
    """Of an exchange."""
    return shares(asyncio.run(_profiled(body_bytes)))


def shares(profile: cProfile.Profile) -> Profile:
    """Own time by module as a share of all, the largest first; what is written in C counts where it is called."""
    stats = pstats.Stats(profile)
    own: Counter[str] = Counter()
    for (file, _, _), (_, _, seconds, _, callers) in stats.stats.items():  # type: ignore[attr-defined]
        if file == "~":
            for (caller, _, _), (_, _, part, _) in callers.items():
                own[_module(caller)] += part
        else:
            own[_module(file)] += seconds
    return {name: seconds / own.total() for name, seconds in own.most_common()}


def _module(file: str) -> str:
    _, found, inner = file.rpartition("/aibrix_extproc/")
    return inner.removesuffix(".py").replace("/", ".") if found else OTHERS


async def _profiled(body_bytes: int) -> cProfile.Profile:
    bench, profile = Bench(body_bytes), cProfile.Profile()
    with profile:
        for _ in range(5000):
            bench.shipped()
    return profile


def main() -> None:
    """Print the parts of one exchange."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inside", description=__doc__)
    parser.add_argument("--body-bytes", type=int, default=914)
    parser.add_argument("--profile", action="store_true", help="also run under cProfile")
    args = parser.parse_args()
    for step in measure(args.body_bytes):
        print(f"{step.us:8.2f} us  {step.name}")
    if args.profile:
        profile = asyncio.run(_profiled(args.body_bytes))
        pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(40)


if __name__ == "__main__":
    main()
