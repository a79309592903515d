"""`python -m benchmarks.admission`: what the queue gives callers beside a heavy one; writes docs/admission-figures.md.

Simulated (`admission_model.py`), so that the figures are the same on every machine.
"""

import argparse
from pathlib import Path
from typing import Final

from aibrix_extproc.core.routing.queue.classes import RequestClass
from benchmarks.admission_model import ENGINES, SLOTS, Caller, Model, Outcome

PAGE: Final = Path("docs/admission-figures.md")
RATES: Final = (10.0, 20.0, 30.0, 40.0)
SMALL: Final = "small"
LARGE: Final = Caller("large", RequestClass.DEFAULT, 20_000, 16, clients=48)
SHORT_BATCH: Final = Caller("batch", RequestClass.BATCH, 200, 16, clients=64)
LONG_BATCH: Final = Caller("long batch", RequestClass.BATCH, 2_000, 100, clients=64)
BESIDE: Final = {
    "prompts 100 times larger": LARGE, "batch of the same requests": SHORT_BATCH, "batch of long answers": LONG_BATCH,
}  # fmt: skip
_HEAD: Final = """# What the queue gives

Written by `python -m benchmarks.admission`. Simulated: {engines} engines of {slots} slots; the queue is the
gateway's own. A caller sends requests of 200 tokens for 16 tokens (0.33 s) at random moments. Beside it is a caller
with 48 clients and prompts 100 times larger (1.3 s), or a batch with 64 lines at once. p95 and p99 are those of whole
answers, as ratios to the same caller alone. *Busy* is the part of all slots that is in use. Prompts do not slow each
other down here, as they do in an engine.

| requests a second | slots it needs | beside it | queue | p95 | p99 | busy | others' answers a second |
| ---: | ---: | --- | --- | ---: | ---: | ---: | ---: |
"""


_WHAT_IT_SAYS: Final = """
As long as a caller needs less than an equal share of the slots (16 here), the one beside it costs its p95 nothing, and
a batch costs its p99 nothing. The price is that some slots stay free: 13 to 18 % beside a caller, 19 to 36 % beside a
batch. Beyond its equal share a caller waits as all others do.
"""


def row(rate: float, beside: str, mode: str, outcome: Outcome, alone: Outcome, other: Caller, seconds: float) -> str:
    """A line of the table."""
    p95, p99 = (outcome.quantile(SMALL, share) / alone.quantile(SMALL, share) for share in (0.95, 0.99))
    answers = len(outcome.seconds.get(other.name, ())) / (seconds - 30.0)
    needed = rate * 0.33
    figures = f"{p95:.2f} | {p99:.2f} | {outcome.work:.2f} | {answers:.1f}"
    return f"| {rate:g} | {needed:.1f} | {beside} | {mode} | {figures} |\n"


def main() -> None:
    """Run all, write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=300.0, help="simulated, of each run")
    seconds = parser.parse_args().seconds
    text = _HEAD.format(engines=ENGINES, slots=SLOTS)
    for rate in RATES:
        small = Caller(SMALL, RequestClass.DEFAULT, 200, 16, rate=rate)
        alone = Model((small,), seconds, queued=False).run()
        for beside, other in BESIDE.items():
            for mode, queued in (("off", False), ("on", True)):
                outcome = Model((small, other), seconds, queued=queued).run()
                text += row(rate, beside, mode, outcome, alone, other, seconds)
    text += _WHAT_IT_SAYS
    PAGE.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
