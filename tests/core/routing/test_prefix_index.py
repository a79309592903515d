"""The prefix index: it says what engines of a real LRU would have, in bounded memory."""

import random
import tracemalloc
from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.openai.wire.prefix import PrefixChain
from aibrix_extproc.core.routing.prefix.index import PrefixIndex


def a_chain(*hashes: int, size: int = 100) -> PrefixChain:
    return PrefixChain(hashes, tuple(size * place for place in range(1, len(hashes) + 1)))


class EngineCache:
    """A prefix cache as in vLLM: the blocks of a prompt are used from its last to its first."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self.kept: OrderedDict[int, None] = OrderedDict()

    def serve(self, chain: PrefixChain) -> int:
        """Blocks that were there."""
        found = next((place for place, one in enumerate(chain.hashes) if one not in self.kept), len(chain.hashes))
        for one in reversed(chain.hashes):
            self.kept.pop(one, None)
            self.kept[one] = None
        while len(self.kept) > self.blocks:
            self.kept.popitem(last=False)
        return found


prompts = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=80
)  # which engine, which conversation, how long it is by now


@given(prompts)
def test_index_says_what_the_engines_have(placed: list[tuple[int, int, int]]) -> None:
    index = PrefixIndex()
    engines = [EngineCache(20) for _ in range(4)]
    for number in range(4):
        index.limit(f"e{number}", 2000)
    for number, conversation, turns in placed:
        chain = a_chain(7, *(100 * conversation + turn for turn in range(turns)))  # all share one block
        expected = index.cached(chain).of(f"e{number}")
        assert expected == 100 * engines[number].serve(chain)
        index.placed(f"e{number}", chain)
        by_slot = index.cached(chain).by_slot(index.slots) or []
        for one in range(4):
            cached = index.cached(chain).of(f"e{one}")
            assert cached == (by_slot[index.slot(f"e{one}")] if cached else 0)


@given(prompts, st.integers(0, 3), st.integers(0, 6), st.integers(0, 30))
def test_a_prompt_that_is_taken_back_has_evicted_nothing(
    placed: list[tuple[int, int, int]], engine: int, conversation: int, turns: int
) -> None:
    index, twin = PrefixIndex(), PrefixIndex()
    for one in (index, twin):
        for number in range(4):
            one.limit(f"e{number}", 2000)
        for number, other, length in placed:
            one.placed(f"e{number}", a_chain(7, *(100 * other + turn for turn in range(length))))
    chain = a_chain(7, *(100 * conversation + turn for turn in range(turns)))
    change = index.placed(f"e{engine}", chain)
    if change is not None:
        index.take_back(f"e{engine}", change)
    assert len(index) == len(twin)
    for other in range(7):
        whole = a_chain(7, *(100 * other + turn for turn in range(30)))
        assert index.cached(whole).steps == twin.cached(whole).steps


def test_nothing_is_taken_back_from_a_cache_that_was_cleared() -> None:
    index = PrefixIndex()
    index.limit("a", 200)
    index.placed("a", a_chain(1, 2))
    change = index.placed("a", a_chain(8, 9))
    assert change is not None
    index.clear("a")
    index.take_back("a", change)
    assert len(index) == 0


def test_many_endpoints_are_found_as_few_are() -> None:
    index = PrefixIndex()
    for number in range(300):
        index.placed(f"e{number}", a_chain(1, *range(1000 * number, 1000 * number + number % 3)))
    cached = index.cached(a_chain(1, 7000, 7001)).by_slot(index.slots)
    assert cached is not None
    assert [cached[index.slot(f"e{number}")] for number in (0, 7, 299)] == [100, 200, 100]


def test_endpoint_that_is_gone_leaves_nothing_and_its_bit_to_the_next() -> None:
    index = PrefixIndex()
    index.placed("a", a_chain(1, 2, 3))
    index.placed("b", a_chain(1, 2))
    index.forget("a")
    index.placed("c", a_chain(9))
    assert len(index) == 3
    assert index.slots == 2
    assert [index.cached(a_chain(1, 2, 3)).of(one) for one in "abc"] == [0, 200, 0]


def test_cleared_endpoint_has_nothing() -> None:
    index = PrefixIndex()
    index.placed("a", a_chain(1, 2))
    index.clear("a")
    assert index.cached(a_chain(1, 2)).steps == []
    assert index.blocks("a") == 0


def test_stored_and_removed_blocks_are_followed_one_by_one() -> None:
    index = PrefixIndex()
    for block in (1, 2, 3):
        index.stored("a", block, 100)
    index.removed("a", 2)
    index.removed("a", 99)
    index.removed("unknown", 1)
    assert index.cached(a_chain(1, 2, 3)).of("a") == 100


def test_smaller_cache_makes_the_oldest_blocks_leave_at_once() -> None:
    index = PrefixIndex()
    index.placed("a", a_chain(1, 2))
    index.placed("a", a_chain(5))
    index.limit("a", 100)
    assert index.cached(a_chain(1)).of("a") == 0
    assert index.cached(a_chain(5)).of("a") == 100


def test_endpoint_that_is_filled_costs_the_others_nothing_below_their_share() -> None:
    index = PrefixIndex(max_blocks=1_000)
    for number in range(10):
        index.limit(f"e{number}", 1e12)
        index.placed(f"e{number}", a_chain(*range(1000 * number, 1000 * number + 90)))
    for turn in range(50):
        index.placed("e0", a_chain(*range(10**6 + 100 * turn, 10**6 + 100 * turn + 100)))
    assert [index.blocks(f"e{number}") for number in range(1, 10)] == [90] * 9
    assert len(index) <= 1_000


def test_index_of_a_hundred_engines_is_bounded_whatever_is_sent() -> None:
    rng = random.Random(1)
    index = PrefixIndex(max_blocks=4_000)  # a fortieth of the real bound
    for number in range(100):
        index.limit(f"pod-uid-{number}/10.0.0.{number}:8000", 1e12)
    tracemalloc.start()
    for turn in range(150):
        chain = a_chain(*(rng.getrandbits(64) for _ in range(60)), size=4096)
        index.placed(f"pod-uid-{turn % 100}/10.0.0.{turn % 100}:8000", chain)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(index) <= 4_000
    assert taken <= 64 / 40 * 2**20
