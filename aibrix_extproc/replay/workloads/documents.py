"""Requests without conversations: questions about documents, adapters, bursts of completions."""

from random import Random
from typing import Final

from aibrix_extproc.replay.trace import Request, Text, Trace, Writer, trace_of
from aibrix_extproc.replay.workloads.draws import Zipf, gamma_gap, lognormal

DOCUMENTS: Final = 400
DOCUMENT_TOKENS: Final = 6_000  # median
INSTRUCTIONS: Final = 1_024
RAG_RATE: Final = 15.0
ADAPTERS: Final = 48
LORA_RATE: Final = 45.0
BURST_RATE: Final = 30.0
BURST_VARIATION: Final = 13.0  # coefficient of variation of the times between requests, as Azure's code trace has


def rag(seed: int, requests: int) -> Trace:
    """Questions about one to three documents, popular by Zipf's law. Only the first of them is a shared prefix."""
    draw, writer = Random(seed), Writer()
    instructions = writer.extended(Text(), INSTRUCTIONS)
    lengths = [lognormal(draw, DOCUMENT_TOKENS, 0.6) for _ in range(DOCUMENTS)]
    popular = Zipf(DOCUMENTS, 1.0)
    texts: dict[tuple[int, ...], Text] = {(): instructions}
    at, rows = 0.0, list[Request]()
    for _ in range(requests):
        at += draw.expovariate(RAG_RATE)
        found: tuple[int, ...] = ()
        for _ in range(draw.choice((1, 1, 2, 3))):
            before, found = found, (*found, popular.draw(draw))
            if found not in texts:
                texts[found] = writer.extended(texts[before], lengths[found[-1]])
        prompt = writer.extended(texts[found], lognormal(draw, 60, 0.7))
        rows.append(Request(at, prompt.tokens, lognormal(draw, 180, 0.6, most=2_048), prompt.blocks))
    return trace_of("rag", rows)


def adapters(seed: int, requests: int) -> Trace:
    """LoRA adapters of one model, popular by Zipf's law. Each has instructions of its own, and shares no blocks."""
    draw, writer = Random(seed), Writer()
    begins = [writer.extended(Text(), lognormal(draw, 1_500, 0.7)) for _ in range(ADAPTERS)]
    popular = Zipf(ADAPTERS, 0.9)
    at, rows = 0.0, list[Request]()
    for _ in range(requests):
        at += draw.expovariate(LORA_RATE)
        adapter = popular.draw(draw)
        prompt = writer.extended(begins[adapter], lognormal(draw, 900, 1.0, most=32_000))
        output = lognormal(draw, 120, 0.8, most=2_048)
        rows.append(Request(at, prompt.tokens, output, prompt.blocks, model=f"adapter-{adapter}"))
    return trace_of("adapters", rows)


def bursts(seed: int, requests: int) -> Trace:
    """Code completions with the lengths and bursts of Azure's code trace; a file comes again with some more."""
    draw, writer = Random(seed), Writer()
    files: list[Text] = []
    at, rows = 0.0, list[Request]()
    for _ in range(requests):
        at += gamma_gap(draw, BURST_RATE, BURST_VARIATION)
        if files and draw.random() < 0.5:
            prompt = writer.extended(draw.choice(files[-200:]), lognormal(draw, 200, 0.8))
        else:
            prompt = writer.extended(Text(), lognormal(draw, 1_100, 1.36, most=64_000))
            files.append(prompt)
        rows.append(Request(at, prompt.tokens, lognormal(draw, 16, 0.85, most=1_024), prompt.blocks))
    return trace_of("bursts", rows)
