"""A session on the gateway's real dispatcher, fed with whatever; says what is wrong with how it took it.

The promises: no exception (the dispatcher's `bug` is never called), an answer to every message within bounded CPU time,
headers that Envoy can send, every error body in the shape of its API, and nothing left behind at the end.
"""

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aibrix_extproc.adapters.bodyreader.reader import BodyReader
from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import (
    HeaderMap,
    HttpBody,
    HttpHeaders,
    HttpTrailers,
    ProcessingRequest,
    ProcessingResponse,
)
from aibrix_extproc.adapters.extproc.decoding import ATTRIBUTES
from aibrix_extproc.adapters.extproc.outgoing import whole_messages
from aibrix_extproc.adapters.extproc.session import Session
from aibrix_extproc.adapters.telemetry.metrics import Metrics
from aibrix_extproc.app.authenticator import Authenticator
from aibrix_extproc.app.body_reading import BodyReading
from aibrix_extproc.app.directory import Directory
from aibrix_extproc.app.dispatch import Dispatcher, handlers
from aibrix_extproc.app.engine_load import LoadCount
from aibrix_extproc.app.observers import observers
from aibrix_extproc.app.placing import Placing
from aibrix_extproc.core.access.holders import IssuedKey, KeyHolder, digest_of
from aibrix_extproc.core.access.keys import KeyRing
from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Health, Task
from aibrix_extproc.core.openai.contract.errors import ERRORS
from aibrix_extproc.core.openai.contract.operations import Role
from aibrix_extproc.core.openai.contract.paths import normalise
from aibrix_extproc.core.placing import Caller
from aibrix_extproc.core.routing.owners import ResponseOwners
from aibrix_extproc.core.routing.place import Placer, Ranking
from aibrix_extproc.core.routing.signals import SignalSources
from tests.build import a_snapshot, an_endpoint
from tests.fuzz.recorded import SECRET, Answer, Request

MAX_CPU_SECONDS: Final = 0.5  # for one message; they take well under a millisecond
HANGS_AFTER_SECONDS: Final = 20  # of CPU time: a busy machine is no bug
_TYPES: Final = {row.type for row in ERRORS.values()}
_ID: Final = "01234567-89ab-cdef-0123-456789abcdef"


@contextmanager
def watchdog() -> Iterator[None]:
    """Break out of a message that never ends; the exception then counts as the bug that it is."""

    def bark(_signal: int, _frame: object) -> None:
        raise TimeoutError("a message takes too long")

    before = signal.signal(signal.SIGPROF, bark)
    signal.setitimer(signal.ITIMER_PROF, HANGS_AFTER_SECONDS, HANGS_AFTER_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class Gateway:
    """What sessions share. `seen` counts what came back, so that a run can be told from a no-op."""

    def __init__(self) -> None:
        fleet = a_snapshot(
            an_endpoint(1, models=("chat-m", "org/model"), tasks=frozenset(Task), api_key="engine-key"),
            an_endpoint(2, models=("chat-m",)),
            an_endpoint(3, models=("emb-m",), tasks=frozenset({Task.EMBED})),
            an_endpoint(4, models=("gone-m",), health=Health.NOT_READY),
        )
        callers = {
            "good": Caller("team-a"),
            "narrow": Caller("team-b", models=("emb-*",), operations=frozenset({"embedding", "list_models"})),
            "strong": Caller("ops", role=Role.ADMIN, engine_controls=True),
        }
        ring = KeyRing(KeyHolder(caller, (IssuedKey(f"k_{key}", digest_of(key)),)) for key, caller in callers.items())
        self.load = LoadBook()
        self.metrics = Metrics()
        owners = ResponseOwners([SECRET])
        placer = Placer(SignalSources(self.load, random.Random(1).random), owners, Ranking("least-request"), time.time)
        self.dispatcher = Dispatcher(
            handlers(
                Authenticator(lambda: ring, time.time),
                Directory(lambda: fleet),
                Placing(placer, lambda: fleet, time.perf_counter),
                BodyReading(BodyReader()),
            ),
            observers(LoadCount(self.load, LoadBook()), owners, lambda _: None, self.metrics, log_every=False),
            longest_wait_seconds=4.0,
            timed=self.metrics.timed,
            bug=self._bug,
        )
        self.bugs = 0
        self.seen: Counter[int] = Counter()
        self.slowest = 0.0

    def _bug(self) -> None:
        self.bugs += 1
        self.metrics.bug()

    def total(self, metric: str) -> float:
        """The sum of a counter over its labels."""
        return sum(
            sample.value for family in self.metrics.registry.collect() for sample in family.samples
            if sample.name == metric
        )  # fmt: skip


class Conversation:
    """One exchange as Envoy would lead it, and the checks of every reply."""

    def __init__(self, gateway: Gateway, request: Request, *, metering: bool) -> None:
        self._gateway = gateway
        policy = ExchangePolicy(max_body_bytes=150_000, metering=metering)
        self._answer: dict[str, str] = {}  # headers of the engine's answer
        self._session = Session(gateway.dispatcher, Exchange(policy), time.perf_counter, lambda: _ID)
        self._request = request
        self.answered = False  # by us: Envoy asks for nothing more

    @property
    def _anthropic(self) -> bool:
        return f"{normalise(self._request.path)}/".startswith("/v1/messages/")

    def ask(self, *, trailers: bool = False) -> None:
        """Send the request."""
        request = self._request
        head = {":method": request.method, ":path": request.path, ":authority": "x", **request.headers}
        self._feed(ProcessingRequest(request_headers=_headers(head, end=not request.body and not trailers)))
        if request.body and not self.answered:
            body = HttpBody(body=request.body, end_of_stream=not trailers)
            self._feed(ProcessingRequest(request_body=body))
        if trailers and not self.answered:
            self._feed(ProcessingRequest(request_trailers=HttpTrailers(trailers=_map({"x-checksum": "1"}))))

    def answer(self, answer: Answer, address: str) -> None:
        """Send what came from the engine, or from Envoy itself."""
        self._answer = answer.headers
        message = ProcessingRequest(
            response_headers=_headers({":status": str(answer.status), **answer.headers}, end=not answer.body)
        )
        fields = message.attributes[ATTRIBUTES].fields
        fields["response.code_details"].string_value = answer.details
        fields["response.flags"].number_value = answer.flags
        fields["upstream.address"].string_value = address
        fields["request.id"].string_value = _ID
        wants_body = self._feed(message)
        if wants_body:
            body = HttpBody(body=answer.body, end_of_stream=not answer.trailers)
            self._feed(ProcessingRequest(response_body=body))
            if answer.trailers and not self.answered:
                trailers = HttpTrailers(trailers=_map(answer.trailers))
                self._feed(ProcessingRequest(response_trailers=trailers))

    def close(self) -> None:
        """The stream ends; nothing may be left."""
        self._session.close(events.Cause.HALF_CLOSED)
        assert self._gateway.load.total() == 0

    def _feed(self, message: ProcessingRequest) -> bool:
        """Whether the reply asks for the whole body of the answer."""
        began = time.thread_time()
        replies = self._session.receive(message)
        spent = time.thread_time() - began
        self._gateway.slowest = max(self._gateway.slowest, spent)
        assert spent < MAX_CPU_SECONDS
        assert len(replies) == 1, "Envoy waits for one reply to each message"
        (reply,) = map(ProcessingResponse.FromString, whole_messages(replies))
        if reply.HasField("immediate_response"):
            self.answered = True
            immediate = reply.immediate_response
            self._check(immediate.status.code, _values(immediate.headers.set_headers), immediate.body)
            return False
        kind = reply.WhichOneof("response")
        assert kind == message.WhichOneof("request"), "the reply is to the phase that was sent"
        if kind.endswith("trailers"):
            return False
        common = getattr(reply, kind).response
        changed = _values(common.header_mutation.set_headers)
        if ":status" in changed:
            kept = {k: v for k, v in self._answer.items() if k not in common.header_mutation.remove_headers}
            self._check(int(changed[":status"]), kept | changed, common.body_mutation.body)
        if common.body_mutation.body and "content-length" in changed:
            assert changed["content-length"] == str(len(common.body_mutation.body))
        return reply.HasField("mode_override")

    def _check(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self._gateway.seen[status] += 1
        assert headers["x-request-id"] == _ID
        if status < 400:
            assert status in (200, 204)
            return
        assert status <= 599
        assert headers["content-type"] == "application/json"
        assert not {"content-encoding", "location", "server", "www-authenticate", "endpoint-load-metrics"} & set(
            headers
        )
        assert "allow" not in headers or status == 405
        assert "retry-after" in headers or status != 503
        if "retry-after" in headers:
            assert 1 <= int(headers["retry-after"]) <= 60
        assert headers.get("x-should-retry", "false") in ("true", "false")
        document = json.loads(body)
        error = document["error"]
        assert isinstance(error["message"], str)
        assert error["message"]
        if self._anthropic:
            assert set(document) == {"type", "error", "request_id"}
            assert document["type"] == "error"
            assert set(error) == {"type", "message"}
            return
        assert set(document) == {"error"}
        assert set(error) == {"message", "type", "param", "code"}
        assert error["type"] in _TYPES
        for name in ("param", "code"):
            assert error[name] is None or isinstance(error[name], str)


def _map(headers: dict[str, str]) -> HeaderMap:
    found = HeaderMap()
    for name, value in headers.items():
        found.headers.add(key=name, raw_value=value.encode("latin-1"))
    return found


def _headers(headers: dict[str, str], *, end: bool) -> HttpHeaders:
    return HttpHeaders(headers=_map(headers), end_of_stream=end)


def _values(options: object) -> dict[str, str]:
    found: dict[str, str] = {}
    for option in options:  # type: ignore[attr-defined]
        value = option.header.raw_value
        assert value.translate(None, b"\r\n\x00") == value, "a header that Envoy refuses"
        found[option.header.key] = value.decode("latin-1")
    return found
