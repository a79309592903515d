"""Which requests are placed by the beginning of their prompt."""

import json
from typing import Any

import pytest

from aibrix_extproc.core.exchange.asks import Admitted, Place
from aibrix_extproc.core.exchange.events import RequestBody
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import Assigned
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.placing import Caller
from tests.build import a_placed, a_request_head

LONG = [{"role": "user", "content": "words " * 500}]


def asked(path: str, seed: int = 7, **members: Any) -> tuple[Exchange, Place]:
    exchange = Exchange(ExchangePolicy(prefix_seed=lambda: seed))
    exchange.receive(a_request_head(path=path))
    exchange.receive(Admitted(Caller("someone")))
    (place,) = exchange.receive(RequestBody(1.0, json.dumps({"model": "m", **members}).encode(), end_of_stream=True))
    assert isinstance(place, Place)
    return exchange, place


def test_long_chat_is_placed_by_its_prefix_and_its_limit_of_tokens() -> None:
    _, place = asked("/v1/chat/completions", messages=LONG, max_tokens=9)
    assert place.query.prefix is not None
    assert place.query.prompt_bytes == place.query.prefix.size >= 3000
    assert place.query.max_tokens == 9


@pytest.mark.parametrize(
    ("path", "seed", "members"),
    [
        ("/v1/chat/completions", 0, {"messages": LONG}),
        ("/v1/chat/completions", 7, {"messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/embeddings", 7, {"input": "words " * 500}),
        ("/v1/rerank", 7, {"query": "q", "documents": ["words " * 500]}),
    ],
    ids=["nobody needs it", "short", "embedding", "rerank"],
)
def test_others_are_placed_by_their_size(path: str, seed: int, members: dict[str, Any]) -> None:
    _, place = asked(path, seed, **members)
    assert place.query.prefix is None
    assert place.query.prompt_bytes == place.query.body_bytes > 0


def test_who_gets_the_request_is_told_what_it_was_placed_by() -> None:
    exchange, place = asked("/v1/chat/completions", messages=LONG)
    assigned, *_ = exchange.receive(a_placed())
    assert isinstance(assigned, Assigned)
    assert assigned.query is place.query
    assert assigned.request_id == place.request_id
