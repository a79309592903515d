"""Coding agents by the published parameters of aiperf's agentic_code generator.

Prompts have layers: one that all share, one of a group, one of a session. Each turn adds to them; now and then a
session begins anew. Most pauses are those of tools, some those of people.
"""

from collections.abc import Iterator
from random import Random
from typing import Final

from aibrix_extproc.replay.trace import Request, Text, Trace, Writer, trace_of
from aibrix_extproc.replay.workloads.draws import Zipf, from_the_start, lognormal, sigma_of

SHARED_TOKENS: Final = 32_000
GROUPS: Final = 100
GROUP_EXPONENT: Final = 0.6
GROUP_TOKENS: Final = 10_000
SESSION_TOKENS: Final = 15_000  # mean
NEW_TOKENS: Final = (6_000, 4_000)  # mean and median of a turn
OUTPUT_TOKENS: Final = (1_000, 800)
TOOL_SECONDS: Final = (5.0, 2.0)
PERSON_SECONDS: Final = (30.0, 15.0)
TOOLS: Final = 0.7  # part of the pauses
RESET: Final = 0.05  # chance that a session begins anew after a turn
MOST_TOKENS: Final = 200_000
RATE: Final = 7.0  # requests a second
_FIRST_SECONDS: Final = 600.0  # until as many sessions end as begin: there are fewer requests before
_TURNS: Final = 15.0  # mean number of a session, before it reaches its most tokens


def agents(seed: int, requests: int) -> Trace:
    """A trace with so many requests."""
    draw, writer = Random(seed), Writer()
    shared = writer.extended(Text(), SHARED_TOKENS)
    groups = [writer.extended(shared, GROUP_TOKENS) for _ in range(GROUPS)]
    popular = Zipf(GROUPS, GROUP_EXPONENT)
    at, rows, number = 0.0, list[Request](), 0
    while at < requests / RATE + _FIRST_SECONDS:
        at += draw.expovariate(RATE / _TURNS)
        rows += _session(f"{number}", groups[popular.draw(draw)], at, draw, writer)
        number += 1
    return trace_of("agents", from_the_start(rows, requests))


def _session(name: str, group: Text, at: float, draw: Random, writer: Writer) -> Iterator[Request]:
    start = writer.extended(group, int(draw.expovariate(1 / SESSION_TOKENS)) + 1)
    prompt = start
    for _ in range(int(draw.expovariate(1 / _TURNS)) + 1):
        prompt = writer.extended(prompt, _length(draw, NEW_TOKENS))
        output = _length(draw, OUTPUT_TOKENS)
        if prompt.tokens > MOST_TOKENS:
            return
        yield Request(at, prompt.tokens, output, prompt.blocks, name)
        mean, median = TOOL_SECONDS if draw.random() < TOOLS else PERSON_SECONDS
        at += 0.02 * output + _length(draw, (1000 * mean, 1000 * median)) / 1000
        prompt = start if draw.random() < RESET else writer.extended(prompt, output)


def _length(draw: Random, mean_median: tuple[float, float]) -> int:
    mean, median = mean_median
    return lognormal(draw, median, sigma_of(mean, median))
