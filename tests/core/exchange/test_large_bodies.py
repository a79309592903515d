"""JSON bodies in pieces: the machine has them read elsewhere, and changes them without joining them."""

import json

import pytest
from msgspec.structs import replace

from aibrix_extproc.core.exchange.asks import Admitted, BodyRead, Place, ReadLarge, Refused
from aibrix_extproc.core.exchange.events import LargeRequestBody, RequestTrailers
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import Continue, Immediate, Phase
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.wire.request import read_json
from aibrix_extproc.rope import rope_of
from tests.build import CALLER, a_closing, a_placed, a_request_head

BODY = b'{"model":"chat-m","stream":true,"session_id":"mine","messages":["%b"],"max_tokens":7}' % (b"x" * 3_000_000)


def reading(body: bytes = BODY, path: str = "/v1/chat/completions", profile: str = "") -> tuple[Exchange, ReadLarge]:
    """An exchange that waits for a large body to be read."""
    exchange = Exchange(ExchangePolicy(metering=True))
    exchange.receive(a_request_head(path=path, config_profile=profile))
    exchange.receive(Admitted(CALLER))
    rope = rope_of(body[at : at + 16_384] for at in range(0, len(body), 16_384))
    (ask,) = exchange.receive(LargeRequestBody(1.0, rope, end_of_stream=True))
    assert isinstance(ask, ReadLarge)
    return exchange, ask


def answer_to(ask: ReadLarge) -> BodyRead:
    body = ask.body.joined()
    return BodyRead(read_json(body, sized=ask.sizes))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_large_body_is_placed_and_changed_in_pieces(path: str) -> None:
    exchange, ask = reading(path=path)
    assert exchange.receive(RequestTrailers(3.0)) == (Continue(Phase.REQUEST_TRAILERS),)
    (place,) = exchange.receive(answer_to(ask))
    assert isinstance(place, Place)
    assert (place.query.model, place.query.body_bytes) == ("chat-m", len(BODY))
    made = "resp_made" if "responses" in path else None
    forward = exchange.receive(replace(a_placed(), response_id=made))[1]
    assert isinstance(forward, Continue)
    assert forward.body is None
    assert forward.large_body is not None
    sent = json.loads(forward.large_body.joined())
    extra = {"request_id": made} if made else {"stream_options": {"include_usage": True}}
    assert sent == {**json.loads(BODY), "session_id": None, **extra}
    copied = {id(piece) for piece in ask.body.pieces} & {id(piece) for piece in forward.large_body.pieces}
    assert len(copied) >= len(ask.body.pieces) - 2, "pieces that do not change are the same objects"


def test_sizes_are_asked_for_where_the_profile_depends_on_them() -> None:
    exchange, ask = reading(profile="auto")
    assert ask.sizes
    (place,) = exchange.receive(answer_to(ask))
    assert isinstance(place, Place)
    assert place.headers is not None
    assert (place.headers.prompt_tokens, place.headers.max_tokens) == (3_000_004 // 4, 7)


@pytest.mark.parametrize(
    "answer", [Refused(Problem("gateway_busy")), BodyRead(Problem("malformed_json")), BodyRead(Problem("empty_model"))]
)
def test_large_body_that_cannot_be_read_is_refused(answer: Refused | BodyRead) -> None:
    exchange, _ = reading()
    (refusal,) = exchange.receive(answer)
    assert isinstance(refusal, Immediate)
    assert refusal.status in (400, 503)


def test_client_gone_while_its_body_is_read_leaves_nothing_to_do() -> None:
    exchange, ask = reading()
    exchange.receive(a_closing())
    assert exchange.receive(answer_to(ask)) == ()
