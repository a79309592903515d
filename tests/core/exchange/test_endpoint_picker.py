"""What the exchange does as an endpoint picker: heads without a path, reasons for what is dropped."""

import json

import pytest

from aibrix_extproc.core.exchange.asks import Admitted, Place, Refused
from aibrix_extproc.core.exchange.endpoint_picker import DROPPED_REASON, REASONS
from aibrix_extproc.core.exchange.events import RequestHead
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import Continue, Immediate
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.openai.contract.errors import ERRORS, Problem
from tests.build import CALLER, HEAD_AT, a_placed, a_request_body

BODY = json.dumps({"model": "chat-m", "prompt": "Hello", "messages": [{"role": "user", "content": "Hello"}]}).encode()


def picked(headers: dict[str, str], *, is_picker: bool = True) -> tuple[Exchange, Place | Immediate]:
    exchange = Exchange(ExchangePolicy(is_picker=is_picker))
    given = {"content-type": "application/json", "content-length": str(len(BODY)), **headers}
    exchange.receive(RequestHead(HEAD_AT, "req-1", given, end_of_stream=False))
    admitted = exchange.receive(Admitted(CALLER))
    if isinstance(admitted[0], Immediate):
        return exchange, admitted[0]
    (output,) = exchange.receive(a_request_body(BODY))
    assert isinstance(output, Place)
    return exchange, output


@pytest.mark.parametrize(
    ("headers", "operation"),
    [
        ({}, "completion"),
        ({":method": "POST"}, "completion"),
        ({"x-original-path": "/v1/chat/completions"}, "chat_completion"),
        ({"x-forwarded-path": "/v1/chat/completions"}, "chat_completion"),
        ({"x-original-path": "/v1/chat/completions", "x-forwarded-path": "/v1/embeddings"}, "chat_completion"),
        ({":path": "/v1/chat/completions", "x-original-path": "/v1/embeddings"}, "chat_completion"),
    ],
    ids=["nothing", "method", "original", "forwarded", "both", "path"],
)
def test_head_without_a_path_is_taken_as_the_inference_extension_does(headers: dict[str, str], operation: str) -> None:
    exchange, place = picked(headers)
    assert isinstance(place, Place)
    assert place.operation.id == operation
    forwarded = next(one for one in exchange.receive(a_placed()) if isinstance(one, Continue))
    assert ":path" not in dict(forwarded.set_headers)  # the gateway's own, which it did not show


def test_head_without_a_path_is_no_request_behind_an_envoy_of_ours() -> None:
    _, answer = picked({}, is_picker=False)
    assert isinstance(answer, Immediate)
    assert answer.status == 404


@pytest.mark.parametrize("key", REASONS)
def test_refusal_says_why_the_request_was_dropped(key: str) -> None:
    exchange, _ = picked({})
    (answer,) = exchange.receive(Refused(Problem(key, dict.fromkeys(("model", "request_id", "message"), "m"))))
    assert isinstance(answer, Immediate)
    assert dict(answer.headers)[DROPPED_REASON] == REASONS[key]


@pytest.mark.parametrize("key", ["model_not_ready", "model_not_found"])
def test_refusal_without_a_picker_and_mistakes_of_clients_carry_no_such_reason(key: str) -> None:
    exchange, _ = picked({":method": "POST", ":path": "/v1/completions"}, is_picker=key == "model_not_found")
    (answer,) = exchange.receive(Refused(Problem(key, {"model": "m"})))
    assert isinstance(answer, Immediate)
    assert DROPPED_REASON not in dict(answer.headers)


def test_reasons_are_of_problems_that_exist_and_are_nobody_s_mistake() -> None:
    assert all(key in ERRORS and (ERRORS[key].status >= 500 or ERRORS[key].status == 429) for key in REASONS)
