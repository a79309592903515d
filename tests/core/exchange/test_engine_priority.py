"""Engines are told the class of a request as its priority, and nobody else may say it."""

from dataclasses import replace

import pytest

from aibrix_extproc.core.exchange.asks import Admitted
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import Continue
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.placing import Caller
from tests.build import CALLER, a_placed, a_request_body, a_request_head

HEADER = "x-vllm-priority"


def forwarded(caller: Caller, *, tells: bool = True, batch: str = "", given: str | None = "-99") -> Continue:
    exchange = Exchange(ExchangePolicy(tells_priority=tells))
    exchange.receive(a_request_head(headers={} if given is None else {HEADER: given}))
    exchange.receive(Admitted(caller, batch_id=batch))
    exchange.receive(a_request_body())
    return next(one for one in exchange.receive(a_placed()) if isinstance(one, Continue))


@pytest.mark.parametrize(
    ("kind", "batch", "told"),
    [
        ("interactive", "", "-1"),
        ("default", "", "0"),
        ("unknown", "", "0"),
        ("batch", "", "1"),
        ("interactive", "b", "1"),
    ],
)
def test_engine_gets_the_priority_of_the_class(kind: str, batch: str, told: str) -> None:
    caller = replace(CALLER, labels={"class": kind})
    for given in ("-99", None):
        forward = forwarded(caller, batch=batch, given=given)
        assert dict(forward.set_headers)[HEADER] == told


def test_callers_that_may_steer_engines_say_it_themselves() -> None:
    steering = replace(CALLER, engine_controls=True)
    assert HEADER not in dict(forwarded(steering).set_headers)
    assert dict(forwarded(steering, given=None).set_headers)[HEADER] == "0"


def test_without_the_setting_a_clients_priority_is_removed_and_none_is_told() -> None:
    forward = forwarded(CALLER, tells=False)
    assert HEADER not in dict(forward.set_headers)
    assert HEADER in forward.remove_headers
