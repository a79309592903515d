"""The picker of the conformance tests: any request, steered by a header, in both modes of bodies."""

import itertools
import json

import pytest

from aibrix_extproc.app.fixture import fixtures
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.fleet.model import Endpoint, Health
from tests.adapters.extproc.streamed import (
    Conversation,
    a_conversation,
    piece,
    request_body,
    request_head,
    response_body,
    response_head,
    set_headers,
)
from tests.build import an_endpoint

DESTINATION = "x-gateway-destination-endpoint"
SERVED = "x-conformance-test-served-endpoint"
POOL = tuple(an_endpoint(number, health=Health.UNKNOWN) for number in (1, 2, 3))


def asked(selection: str | None, *pool: Endpoint) -> Conversation:
    talk = a_conversation(exchange=fixtures(ExchangePolicy(), lambda: pool or POOL)())
    named = {} if selection is None else {"test_epp_endpoint_selection": selection}
    talk.tell(request_head("POST", "/primary-gateway-test", **named))
    return talk


@pytest.mark.parametrize("selection", ["10.0.0.2", "10.0.0.2:8000", "10.9.9.9, 10.0.0.2"])
def test_request_goes_where_the_header_says_before_its_body_is_here(selection: str) -> None:
    talk = asked(selection)
    (head,) = talk.said
    assert set_headers(head) == {DESTINATION: "10.0.0.2:8000", "x-echo-set-header": f"{SERVED}:10.0.0.2:8000"}
    assert head.dynamic_metadata.fields["envoy.lb"].struct_value.fields[DESTINATION].string_value == "10.0.0.2:8000"
    (body,) = talk.tell(request_body(b"no JSON", end=True))
    assert piece(body) == (b"no JSON", True)


def test_request_without_the_header_goes_anywhere_in_turn() -> None:
    new = fixtures(ExchangePolicy(), lambda: POOL)
    picked = []
    for _ in itertools.repeat(None, 4):
        talk = a_conversation(exchange=new())
        picked.append(set_headers(talk.tell(request_head("GET", "/", end_of_stream=True))[0])[DESTINATION])
    assert picked == ["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000", "10.0.0.1:8000"]


def test_answer_says_which_endpoint_the_gateway_reports() -> None:
    talk = asked("10.0.0.2")
    message = response_head()
    reported = message.metadata_context.filter_metadata["envoy.lb"].fields[f"{DESTINATION}-served"]
    reported.string_value = "10.0.0.3:8000"
    (head,) = talk.tell(message)
    assert set_headers(head)[SERVED] == "10.0.0.3:8000"
    (body,) = talk.tell(response_body(b"echo", end=True))
    assert piece(body) == (b"echo", True)


def test_answer_says_when_the_gateway_reports_nothing() -> None:
    (head,) = asked("10.0.0.2").tell(response_head(500))
    assert set_headers(head)[SERVED].startswith("fail: ")


@pytest.mark.parametrize("pool", [POOL, (an_endpoint(address=""),)], ids=["stranger", "no address"])
def test_selection_that_nothing_fits_is_a_503(pool: tuple[Endpoint, ...]) -> None:
    (refusal,) = asked("10.9.9.9", *pool).said
    assert refusal.immediate_response.status.code == 503
    assert json.loads(refusal.immediate_response.body)["error"]["type"] == "server_error"
