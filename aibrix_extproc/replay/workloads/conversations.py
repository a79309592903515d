"""Conversations: each turn's prompt is all that was said before, and something new."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from aibrix_extproc.replay.trace import Request, Text, Trace, Writer, trace_of
from aibrix_extproc.replay.workloads.draws import EARLIER_SECONDS, Zipf, from_the_start, lognormal


@dataclass(frozen=True, slots=True)
class Conversations:
    """Parameters. Tokens are medians of lognormal distributions, rates requests a second over all conversations."""

    rate: float
    first_tokens: float  # of the first prompt, without the shared part
    first_sigma: float
    more_tokens: float  # that a later turn adds, beside the answer before it
    more_sigma: float
    output_tokens: float
    output_sigma: float
    single: float  # the part of conversations that have one turn
    later_turns: float  # mean number of turns beyond the second, of the others
    most_turns: int
    pause_seconds: float  # median time from the end of an answer to the next turn
    pause_sigma: float
    shared_tokens: int  # that all conversations of an application begin with
    applications: int = 1  # by Zipf's law with exponent 1
    most_tokens: int = 128_000


# Mooncake's conversation trace (FAST'25): prompts lognormal with mu 8.74 and sigma 1.20, 69 % of the conversations with
# a single turn and 1.63 turns in the mean, at most 43, one block that all share, 36.6 % of the tokens seen before; its
# rate times 2.3, as for 8 engines of 16,000 tokens a second.
CONVERSATION = Conversations(
    rate=7.8, first_tokens=4_700, first_sigma=1.2, more_tokens=1_200, more_sigma=1.3, output_tokens=300,
    output_sigma=0.75, single=0.69, later_turns=0.9, most_turns=43, pause_seconds=60, pause_sigma=1.0,
    shared_tokens=512,
)  # fmt: skip
# Chats of several applications: short questions, long common instructions, many turns.
MULTI_TURN = Conversations(
    rate=28.0, first_tokens=250, first_sigma=1.0, more_tokens=250, more_sigma=1.0, output_tokens=220, output_sigma=0.8,
    single=0.25, later_turns=5.0, most_turns=40, pause_seconds=20, pause_sigma=0.8, shared_tokens=2_048,
    applications=24,
)  # fmt: skip


def conversations(name: str, shape: Conversations, seed: int, requests: int) -> Trace:
    """A trace with so many requests."""
    draw = Random(seed)
    writer = Writer()
    shared = [writer.extended(Text(), shape.shared_tokens) for _ in range(shape.applications)]
    applications = Zipf(shape.applications, 1.0)
    turns = shape.single + (1 - shape.single) * (2 + shape.later_turns)
    at, rows, number = -EARLIER_SECONDS, list[Request](), 0
    while at < requests / shape.rate:
        at += draw.expovariate(shape.rate / turns)
        begin = shared[applications.draw(draw)]
        rows += _conversation(f"{number}", begin, at, shape, draw, writer)
        number += 1
    return trace_of(name, from_the_start(rows, requests))


def _conversation(
    session: str, begin: Text, at: float, shape: Conversations, draw: Random, writer: Writer
) -> Iterator[Request]:
    prompt = writer.extended(begin, lognormal(draw, shape.first_tokens, shape.first_sigma, most=shape.most_tokens))
    for turn in range(_turns(shape, draw)):
        if turn and prompt.tokens >= shape.most_tokens:
            return
        output = lognormal(draw, shape.output_tokens, shape.output_sigma, most=4_096)
        yield Request(at, prompt.tokens, output, prompt.blocks, session)
        added = output + lognormal(draw, shape.more_tokens, shape.more_sigma, most=shape.most_tokens)
        prompt = writer.extended(prompt, added)
        at += 0.02 * output + lognormal(draw, 1000 * shape.pause_seconds, shape.pause_sigma) / 1000


def _turns(shape: Conversations, draw: Random) -> int:
    if draw.random() < shape.single:
        return 1
    later = int(draw.expovariate(1 / (shape.later_turns + 0.5)))
    return min(2 + later, shape.most_turns)
