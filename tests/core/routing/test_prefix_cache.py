"""The strategy prefix-cache: AIBrix's rule over our index."""

from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.openai.wire.prefix import PrefixChain
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.predictor import Predictor
from aibrix_extproc.core.routing.scorers.prefix_cache import PrefixCache
from aibrix_extproc.core.routing.signals import Signals

FLEET = tuple(Endpoint(identity=f"e{number}", address=f"10.0.0.{number}:8000") for number in range(4))
LONG = PrefixChain((1, 2, 3, 4), (100, 200, 300, 400))
SHORT = PrefixChain((1, 2), (100, 200))


def order(busy: dict[str, int], prefix: PrefixChain | None = LONG) -> list[str]:
    load, predictor = LoadBook(), Predictor()
    for identity, count in busy.items():
        for _ in range(count):
            load.acquire(identity)
    predictor.index.placed("e1", SHORT)
    predictor.index.placed("e2", LONG)
    signals = Signals(load, 0, predictor=predictor)
    ranked = PrefixCache().rank(RouteQuery("m", prefix=prefix), Pool(FLEET), signals, 4)
    return [one.identity for one in ranked]


def test_most_of_the_prompt_comes_first_and_the_others_by_load() -> None:
    assert order({"e0": 2, "e2": 1}) == ["e2", "e1", "e3", "e0"]


def test_endpoint_far_above_the_mean_comes_behind_those_that_have_less() -> None:
    assert order({"e2": 15, "e0": 1, "e1": 1, "e3": 1})[0] == "e2"  # one of four is never two deviations above
    assert order({"e2": 17})[-1] == "e2"


def test_prompt_that_nobody_has_goes_to_the_least_busy() -> None:
    assert order({"e0": 3, "e1": 1, "e2": 2}, PrefixChain((9,), (50,))) == ["e3", "e1", "e2", "e0"]
    assert order({"e0": 3, "e1": 1, "e2": 2}, None) == ["e3", "e1", "e2", "e0"]
