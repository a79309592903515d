"""The machine between placement and forwarding, while a prefill engine computes the prompt."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from aibrix_extproc.core.exchange.asks import Admitted, Placed, Prefill, PrefillDone, Refused
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import Assigned, Continue, Finished, Forwarded, Immediate, WaitFor
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.wire.prefill import Unsplit
from aibrix_extproc.core.routing.disaggregation.handover import Handover
from tests.build import CALLER, PLACED_AT, a_closing, a_placed, a_request_body, a_request_head, an_endpoint, an_exchange

PREFILLER = an_endpoint(9)
TRANSFER = b'{"do_remote_prefill":true,"remote_host":"10.0.0.9"}'


def prefilling(**members: Any) -> tuple[Exchange, Prefill, Assigned]:
    """A request whose prompt is being computed."""
    exchange = an_exchange()
    exchange.receive(a_request_head())
    exchange.receive(Admitted(CALLER))
    exchange.receive(a_request_body(stream=True, **members))
    placed: Placed = replace(a_placed(), handover=Handover((PREFILLER,)))
    assigned, ask = exchange.receive(placed)
    assert isinstance(ask, Prefill)
    assert isinstance(assigned, Assigned)
    return exchange, ask, assigned


def test_the_load_counts_before_the_prompt_is_computed_and_the_rest_after_it() -> None:
    exchange, ask, assigned = prefilling()
    assert assigned.prefill
    assert isinstance(ask.body, bytes)
    assert json.loads(ask.body)["kv_transfer_params"]["do_remote_decode"] is True
    forwarded, answer, wait = exchange.receive(PrefillDone(PLACED_AT + 2.0, TRANSFER))
    assert isinstance(forwarded, Forwarded)
    assert (forwarded.identity, forwarded.transferred) == (assigned.identity, True)
    assert isinstance(answer, Continue)
    assert answer.body is not None
    assert json.loads(answer.body)["kv_transfer_params"] == json.loads(TRANSFER)
    assert isinstance(wait, WaitFor)
    assert wait.seconds == exchange.policy.max_wait_seconds - 2.0


def test_only_one_attempt_may_read_the_blocks() -> None:
    for transfer, attempts in ((TRANSFER, 1), (b"", 4)):
        exchange, _, _ = prefilling()
        _, answer, _ = exchange.receive(PrefillDone(PLACED_AT, transfer))
        assert isinstance(answer, Continue)
        assert len((answer.destination or "").split(",")) == attempts


def test_without_a_prefill_the_body_is_the_clients() -> None:
    exchange, _, _ = prefilling()
    forwarded, answer, _ = exchange.receive(PrefillDone(PLACED_AT))
    assert isinstance(forwarded, Forwarded)
    assert not forwarded.transferred
    assert isinstance(answer, Continue)
    assert answer.body is None


def test_a_request_that_cannot_be_split_says_why() -> None:
    exchange, ask, _ = prefilling(n=3)
    assert ask.body is Unsplit.ANSWERS
    _, answer, _ = exchange.receive(PrefillDone(PLACED_AT, TRANSFER))
    assert isinstance(answer, Continue)
    assert answer.body is None


@pytest.mark.parametrize("refused", [False, True])
def test_whoever_leaves_during_the_prefill_gives_the_load_back(*, refused: bool) -> None:
    exchange, _, assigned = prefilling()
    if refused:
        (answer,) = exchange.receive(Refused(Problem("decision_timeout")))
        assert isinstance(answer, Immediate)
    (finished,) = exchange.receive(a_closing())
    assert isinstance(finished, Finished)
    assert finished.assigned_to == assigned.identity
    assert exchange.receive(PrefillDone(PLACED_AT, TRANSFER)) == ()
