"""Mutated requests and mutated answers of engines through the gateway's own session, dispatcher and tables.

The normal run takes a few thousand of each; `make fuzz` a hundred thousand. A failure names the seed of its message.
"""

import logging
import random
from collections.abc import Iterator
from typing import Final

import pytest

from tests.fuzz import mutate
from tests.fuzz.recorded import ANSWERS, REQUESTS, Answer, Request
from tests.fuzz.rig import Conversation, Gateway, watchdog

EXCHANGES: Final = "aibrix_extproc.exchanges"
FEW: Final = 1_000
FULL: Final = 100_000
SIZES: Final = [
    pytest.param(FEW, marks=pytest.mark.slow, id="few"),
    pytest.param(FULL, marks=[pytest.mark.slow, pytest.mark.fuzz], id="full"),
]
HEADERS: Final = (
    "authorization", "x-api-key", "content-type", "content-length", "content-encoding", "accept-encoding", "origin",
    "x-request-id", "routing-strategy", "external-filter", "config-profile", "x-session-id",
    "x-aibrix-session-key", "x-stainless-read-timeout", "x-gateway-destination-endpoint", "target-pod",
    "x-vllm-priority", "transfer-encoding", "access-control-request-headers", "access-control-request-method",
)  # fmt: skip
ANSWER_HEADERS: Final = (
    "content-type", "content-length", "content-encoding", "retry-after", "location", "server", "www-authenticate",
    "x-request-id", "endpoint-load-metrics", "transfer-encoding", "allow", "x-should-retry", "retry-after-ms",
)  # fmt: skip
METHODS: Final = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "", "post", "\xff")
STATUSES: Final = (
    0,
    99,
    100,
    101,
    200,
    204,
    206,
    301,
    304,
    400,
    401,
    404,
    408,
    418,
    422,
    429,
    499,
    500,
    503,
    599,
    600,
    999,
)
DETAILS: Final = (
    "", "via_upstream", "direct_response", "no_healthy_upstream", "upstream_reset_before_response_started{overflow}",
    "upstream_reset_{", "ext_authz_denied", "jwt_authn_access_denied{x}", "route_not_found", "\x01", "x" * 5000,
)  # fmt: skip
BODIES: Final = tuple(one.body for one in REQUESTS)
ANSWER_BODIES: Final = tuple(one.body for one in ANSWERS)


def bent_request(rng: random.Random) -> Request:
    """A recorded request with its line, headers or body changed."""
    one = rng.choice(REQUESTS)
    method, path, headers, body = one.method, one.path, one.headers, one.body
    if rng.random() < 0.1:
        method = rng.choice(METHODS)
    if rng.random() < 0.15:
        path = mutate.wire_text(mutate.some_bytes(rng, path.encode(), (b"/v1/models/..%2f", b"/v1/responses/a/b")))
    if rng.random() < 0.4:
        headers = mutate.headers(rng, headers, HEADERS)
    if rng.random() < 0.8:
        body = mutate.body(rng, body, BODIES)
    return Request(method, path, headers, body)


def bent_answer(rng: random.Random) -> Answer:
    """A recorded answer with its status, headers, body or Envoy's word about it changed."""
    one = rng.choice(ANSWERS)
    status = rng.choice(STATUSES) if rng.random() < 0.2 else one.status
    headers = mutate.headers(rng, one.headers, ANSWER_HEADERS) if rng.random() < 0.4 else one.headers
    body = mutate.body(rng, one.body, ANSWER_BODIES) if rng.random() < 0.85 else one.body
    details = rng.choice(DETAILS) if rng.random() < 0.1 else one.details
    flags = rng.getrandbits(rng.choice((8, 30, 62))) if rng.random() < 0.1 else one.flags
    return Answer(
        status, headers, body, details, flags, {"grpc-status": "\xff"} if rng.random() < 0.1 else one.trailers
    )


@pytest.fixture(autouse=True)
def _nothing_surprises(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Bugs and disagreements with Envoy are logged; failed exchanges are too, but they are what is asked for here."""
    caplog.set_level(logging.ERROR, logger=EXCHANGES)
    yield
    assert not caplog.get_records("call")


def reaches_an_engine(request: Request) -> bool:
    talk = Conversation(Gateway(), request, metering=False)
    talk.ask()
    return not talk.answered


def check(gateway: Gateway, number: int) -> None:
    assert gateway.total("aibrix_extproc_internal_errors_total") == 0
    assert gateway.total("aibrix_extproc_exchanges_total") == number


@pytest.mark.parametrize("number", SIZES)
def test_mutated_requests_are_answered_in_shape_and_break_nothing(number: int) -> None:
    gateway = Gateway()
    for seed in range(number):
        rng = random.Random(seed)
        talk = Conversation(gateway, bent_request(rng), metering=rng.random() < 0.5)
        try:
            with watchdog():
                talk.ask(trailers=rng.random() < 0.1)
                if not talk.answered:
                    talk.answer(rng.choice(ANSWERS), "10.0.0.1:8000")
                talk.close()
            assert not gateway.bugs, gateway.bugs
        except Exception as error:
            error.add_note(f"request of seed {seed}: {bent_request(random.Random(seed))!r:.2000}")
            raise
    check(gateway, number)
    assert {400, 401, 404, 405, 413, 415} <= set(gateway.seen), gateway.seen


@pytest.mark.parametrize("number", SIZES)
def test_mutated_answers_of_engines_become_answers_in_shape_and_break_nothing(number: int) -> None:
    asking = [one for one in REQUESTS if reaches_an_engine(one)]
    gateway = Gateway()
    for seed in range(number):
        rng = random.Random(seed)
        answer, address = bent_answer(rng), rng.choice(("10.0.0.1:8000", "10.0.0.2:8000", "", "\xff"))
        talk = Conversation(gateway, rng.choice(asking), metering=rng.random() < 0.5)
        try:
            with watchdog():
                talk.ask()
                assert not talk.answered
                talk.answer(answer, address)
                talk.close()
            assert not gateway.bugs, gateway.bugs
        except Exception as error:
            error.add_note(f"answer of seed {seed}: {answer!r:.2000}")
            raise
    check(gateway, number)
    assert {400, 404, 429, 500, 502, 503, 504} <= set(gateway.seen), gateway.seen
