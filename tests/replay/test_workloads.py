"""Generators of traces: seeded, and with the statistics that they promise."""

import statistics

import pytest

from aibrix_extproc.replay.trace import Trace
from aibrix_extproc.replay.workloads.table import WORKLOADS


def reused(trace: Trace) -> float:
    """The part of all prompt tokens that an earlier prompt had, in whole blocks."""
    seen: set[int] = set()
    found = 0
    for request in trace.requests:
        for block in request.blocks:
            if block not in seen:
                break
            found += trace.block_tokens
        seen.update(request.blocks)
    return found / sum(one.prompt_tokens for one in trace.requests)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_seed_gives_one_trace_in_order(name: str) -> None:
    make = WORKLOADS[name].make
    trace = make(3, 300)
    assert trace == make(3, 300)
    assert trace.requests != make(4, 300).requests
    assert len(trace.requests) == 300
    assert [one.at for one in trace.requests] == sorted(one.at for one in trace.requests)
    assert all(len(one.blocks) == one.prompt_tokens // trace.block_tokens for one in trace.requests)


def test_conversations_are_those_of_the_published_trace() -> None:
    trace = WORKLOADS["conversation"].make(1, 6000)
    lengths = [one.prompt_tokens for one in trace.requests]
    assert 0.8 < statistics.fmean(lengths) / 12_035 < 1.4
    assert 0.8 < statistics.median(lengths) / 6_909 < 1.4
    assert 0.33 < reused(trace) < 0.41
    assert len({one.blocks[:1] for one in trace.requests if one.blocks}) == 1  # one block that all share


def test_agents_repeat_nearly_all_of_their_prompts() -> None:
    trace = WORKLOADS["agents"].make(1, 1000)
    assert reused(trace) > 0.8
    assert max(one.prompt_tokens for one in trace.requests) <= 200_000


def test_adapters_share_nothing_with_one_another() -> None:
    by_model: dict[str, set[int]] = {}
    for one in WORKLOADS["adapters"].make(1, 500).requests:
        by_model.setdefault(one.model, set()).update(one.blocks)
    found = list(by_model.values())
    assert len(found) > 20
    assert sum(map(len, found)) == len(set().union(*found))
