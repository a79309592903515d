"""Callers over their share keep to fewer endpoints; and what counts as a share."""

import pytest

from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.placing import ANYONE, RouteQuery
from aibrix_extproc.core.routing.caller_tokens import MAX_CALLERS, WINDOW_SECONDS, CallerTokens
from aibrix_extproc.core.routing.measured import Degradation
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.scorers.vtc_basic import VtcBasic
from aibrix_extproc.core.routing.signals import Signals
from tests.build import an_endpoint

POOL = Pool(tuple(an_endpoint(number) for number in range(1, 9)))


def scores(caller: str, tokens: CallerTokens, load: LoadBook | None = None) -> list[float]:
    return VtcBasic().scores(RouteQuery("m", caller=caller), POOL, Signals(load or LoadBook(), 0, tokens=tokens))


def test_a_caller_that_uses_twice_its_share_has_half_of_the_endpoints_and_one_below_it_has_all() -> None:
    tokens = CallerTokens()
    for caller, used in (("heavy", 400.0), ("light-1", 0.0), ("light-2", 200.0), ("light-3", 200.0)):
        tokens.add(caller, used, 10.0)

    assert tokens.excess("heavy") == pytest.approx(2.0)
    assert sorted(scores("heavy", tokens)) == [0.49] * 4 + [1.0] * 4
    assert scores("light-2", tokens) == [1.0] * 8
    assert scores("new", tokens) == [1.0] * 8


def test_heavy_callers_have_endpoints_of_their_own_order() -> None:
    tokens = CallerTokens()
    for number in range(20):
        tokens.add(f"heavy-{number}", 1000.0, 0.0)
        tokens.add(f"light-{number}", 1.0, 0.0)
    firsts = {tuple(score > 0.5 for score in scores(f"heavy-{number}", tokens)) for number in range(20)}

    assert len(firsts) > 5


def test_among_its_endpoints_a_caller_goes_where_it_is_quiet_and_the_busiest_of_them_goes_before_all_others() -> None:
    tokens, load = CallerTokens(), LoadBook()
    tokens.add("heavy", 900.0, 0.0)
    tokens.add("light", 100.0, 0.0)
    own = [one for one, score in zip(POOL.endpoints, scores("heavy", tokens), strict=True) if score > 0.5]
    for _ in range(5):
        load.acquire(own[0].identity)
    by_identity = dict(zip((one.identity for one in POOL.endpoints), scores("heavy", tokens, load), strict=True))
    ranked = sorted(by_identity, key=lambda identity: -by_identity[identity])

    assert set(ranked[: len(own)]) == {one.identity for one in own}
    assert ranked[len(own) - 1] == own[0].identity


def test_without_keys_requests_are_balanced_and_the_placement_says_so() -> None:
    signals = Signals(LoadBook(), 0)
    VtcBasic().scores(RouteQuery("m", caller=ANYONE.name), POOL, signals)

    assert signals.degraded == [("vtc-basic", Degradation.NO_CALLER)]


def test_output_counts_twice_and_cached_input_not_at_all() -> None:
    tokens = CallerTokens()
    tokens.charged("a", Usage(1000, 50, 1050, 900, 0), 0.0)
    tokens.add("b", 200.0, 0.0)

    assert tokens.excess("a") == pytest.approx(1.0)


def test_what_was_used_long_ago_fades() -> None:
    tokens = CallerTokens()
    tokens.add("before", 1e6, 0.0)
    for caller in ("now", "too"):
        tokens.add(caller, 100.0, 20 * WINDOW_SECONDS)
    assert tokens.excess("before") < 0.01

    tokens.add("later", 100.0, 1000 * WINDOW_SECONDS)
    assert tokens.excess("before") == 0.0
    assert tokens.excess("later") == pytest.approx(1.0)


def test_callers_are_bounded_and_the_least_is_forgotten() -> None:
    tokens = CallerTokens()
    for number in range(MAX_CALLERS + 10):
        tokens.add(f"caller-{number}", 10.0 + number, 0.0)

    assert tokens.excess("caller-0") == 0.0
    assert tokens.excess(f"caller-{MAX_CALLERS}") > 1.0
