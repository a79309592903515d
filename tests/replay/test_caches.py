"""Caches of engine models: bounded, least recently used out first, shared blocks counted once."""

from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.replay.cache import BlockCache
from aibrix_extproc.replay.paged_cache import PagedCache


def test_a_match_ends_at_the_first_block_that_is_not_there() -> None:
    cache = BlockCache(10, 16)
    cache.insert((1, 2, 3))
    assert cache.match((1, 2, 9, 3), 100) == 32
    assert cache.match((9, 1, 2), 100) == 0
    assert cache.match((1, 2, 3), 48) == 47


def test_the_end_of_a_prompt_is_forgotten_before_its_beginning() -> None:
    cache = BlockCache(4, 16)
    cache.insert((1, 2, 3))
    cache.insert((7, 8))
    assert (cache.match((1, 2, 3), 100), cache.match((7, 8), 100)) == (32, 32)


def test_blocks_that_are_held_are_not_given_away() -> None:
    cache = PagedCache(6, 16)
    cache.hold((1, 2), 32)
    cache.computed((1, 2))
    assert not cache.has_room((3, 4, 5, 6, 7), 80)
    cache.release((1, 2), 32)
    assert cache.match((1, 2), 100) == 32
    cache.hold((3, 4, 5, 6, 7), 80)
    assert cache.match((1, 2), 100) == 16  # the later block had to make room


PROMPTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 40)), min_size=1, max_size=30)


@given(PROMPTS)
def test_what_is_held_is_given_back_and_the_bound_is_kept(prompts: list[tuple[int, int, int]]) -> None:
    cache = PagedCache(12, 16)
    running: list[tuple[tuple[int, ...], int]] = []
    for family, count, more in prompts:
        blocks, tokens = tuple(range(family * 10, family * 10 + count)), count * 16 + more
        while running and not cache.has_room(blocks, tokens):
            cache.release(*running.pop(0))
        if cache.has_room(blocks, tokens):
            cache.hold(blocks, tokens)
            cache.computed(blocks)
            running.append((blocks, tokens))
            assert cache.match(blocks, tokens + 1) == count * 16
        assert cache.held <= 12
    for blocks, tokens in running:
        cache.release(blocks, tokens)
    assert cache.held == 0
