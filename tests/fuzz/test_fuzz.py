"""Mutated requests and mutated answers of engines through the gateway's own session, dispatcher and tables.

The normal run takes a few thousand of each; `make fuzz` a hundred thousand. A failure names the seed of its message.
"""

import logging
import random
from collections.abc import Iterator
from typing import Final

import pytest

from tests.fuzz import bend
from tests.fuzz.recorded import ANSWERS, REQUESTS, Answer, Request
from tests.fuzz.rig import Conversation, Gateway, watchdog

EXCHANGES: Final = "aibrix_extproc.exchanges"
FEW: Final = 3_000
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


def bent_request(dice: random.Random) -> Request:
    """A recorded request with its line, headers or body changed."""
    one = dice.choice(REQUESTS)
    method, path, headers, body = one.method, one.path, one.headers, one.body
    if dice.random() < 0.1:
        method = dice.choice(METHODS)
    if dice.random() < 0.15:
        path = bend.wire_text(bend.some_bytes(dice, path.encode(), (b"/v1/models/..%2f", b"/v1/responses/a/b")))
    if dice.random() < 0.4:
        headers = bend.headers(dice, headers, HEADERS)
    if dice.random() < 0.8:
        body = bend.body(dice, body, BODIES)
    return Request(method, path, headers, body)


def bent_answer(dice: random.Random) -> Answer:
    """A recorded answer with its status, headers, body or Envoy's word about it changed."""
    one = dice.choice(ANSWERS)
    status = dice.choice(STATUSES) if dice.random() < 0.2 else one.status
    headers = bend.headers(dice, one.headers, ANSWER_HEADERS) if dice.random() < 0.4 else one.headers
    body = bend.body(dice, one.body, ANSWER_BODIES) if dice.random() < 0.85 else one.body
    details = dice.choice(DETAILS) if dice.random() < 0.1 else one.details
    flags = dice.getrandbits(dice.choice((8, 30, 62))) if dice.random() < 0.1 else one.flags
    return Answer(
        status, headers, body, details, flags, {"grpc-status": "\xff"} if dice.random() < 0.1 else one.trailers
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
        dice = random.Random(seed)
        talk = Conversation(gateway, bent_request(dice), metering=dice.random() < 0.5)
        try:
            with watchdog():
                talk.ask(trailers=dice.random() < 0.1)
                if not talk.answered:
                    talk.answer(dice.choice(ANSWERS), "10.0.0.1:8000")
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
        dice = random.Random(seed)
        answer, address = bent_answer(dice), dice.choice(("10.0.0.1:8000", "10.0.0.2:8000", "", "\xff"))
        talk = Conversation(gateway, dice.choice(asking), metering=dice.random() < 0.5)
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
