"""Whose session engines name in their cache events."""

from aibrix_extproc.core.exchange.asks import Admitted
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import Continue
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from tests.build import CALLER, REQUEST_ID, a_placed, a_request_body, a_request_head


def test_engine_gets_our_session_for_its_cache_events_in_place_of_the_clients() -> None:
    exchange = Exchange(ExchangePolicy(names_sessions=True))
    exchange.receive(a_request_head(headers={"x-session-id": "the-clients-own"}))
    exchange.receive(Admitted(CALLER))
    exchange.receive(a_request_body())
    forward = next(one for one in exchange.receive(a_placed()) if isinstance(one, Continue))

    assert ("x-session-id", REQUEST_ID) in forward.set_headers
    assert "x-session-id" not in forward.remove_headers
