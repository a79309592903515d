"""Estimates the cost of a request before it runs, and finds it afterwards. Calibrated by real usage; no tokenizer.

Input tokens are estimated from the bytes of the body, with the ratio of the model's own requests (`InputRatios`). A
body with media has few tokens for its bytes: there the model's mean counts. Output tokens are what the request allows,
or three quarters of the caller's answers are shorter. Both are replaced by the usage that the access log reports.
"""

from typing import Final

import msgspec

from aibrix_extproc.core.access.limits.amounts import AMOUNTS, Quantity
from aibrix_extproc.core.access.limits.book import QUANTITIES
from aibrix_extproc.core.access.limits.prices import PriceList
from aibrix_extproc.core.openai.wire.estimates import InputRatios, streamed_tokens

BYTES_PER_AUDIO_SECOND: Final = 16_000.0
MEAN_INPUT: Final = 1000.0
FIRST_OUTPUT: Final = 256.0
MAX_REMEMBERED: Final = 20_000
_DECAY: Final = 0.98
_QUANTILE: Final = 0.75
_AUDIO_UNITS: Final = AMOUNTS["audio_seconds_per_day"].units

Amounts = tuple[float, ...]
"""Units by the places of QUANTITIES."""
NOTHING: Final[Amounts] = (0.0,) * len(QUANTITIES)
assert QUANTITIES == (
    Quantity.REQUESTS, Quantity.INPUT_TOKENS, Quantity.OUTPUT_TOKENS, Quantity.TOKENS, Quantity.BYTES,
    Quantity.AUDIO_SECONDS, Quantity.COST, Quantity.CONCURRENT_REQUESTS, Quantity.ENQUEUED_TOKENS,
)  # fmt: skip


class Demand(msgspec.Struct, frozen=True, gc=False):
    """A request, as far as its size is known."""

    model: str
    caller: str
    body_bytes: int
    is_generated: bool = False  # whether the answer has output tokens
    has_tokens: bool = True  # whether the operation costs tokens at all
    max_output: int | None = None
    has_media: bool = False
    has_audio: bool = False


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """An exchange that has ended; the tokens are None if nobody reported them."""

    model: str
    caller: str
    status: int  # 0 if the client left before the head
    bytes_in: int
    ended_early: bool  # cut, left, or an error inside of it
    events: int = 0  # of a stream that ended early
    input_tokens: int | None = None
    cached_tokens: int = 0
    output_tokens: int = 0
    audio_seconds: float = 0.0


class Estimator:
    """Learns from outcomes. `cached_weight`: what a cached token counts for, of 1. Others teach `ratios`."""

    def __init__(self, ratios: InputRatios, cached_weight: float = 1.0) -> None:
        self._ratios = ratios
        self._cached_weight = cached_weight
        self._means: dict[str, float] = {}  # input tokens of a request, by model
        self._outputs: dict[tuple[str, str], float] = {}

    def demanded(self, demand: Demand, prices: PriceList | None) -> Amounts:
        """The amounts to reserve. `prices`: None if no limit is of money."""
        size = demand.body_bytes
        inputs = outputs = 0.0
        if demand.has_tokens:
            model = demand.model
            inputs = self._means.get(model, MEAN_INPUT) if demand.has_media else size * self._ratios.ratio(model)
            inputs = float(int(inputs) + 1)
        if demand.is_generated:
            given = demand.max_output
            outputs = float(given) if given is not None else self._usual_output(demand)
        audio = size / BYTES_PER_AUDIO_SECOND if demand.has_audio else 0.0
        return self._amounts(demand.model, size, inputs, 0.0, outputs, audio, prices)

    def actual(self, outcome: Outcome, prices: PriceList) -> Amounts | None:
        """The amounts that were used; None if the reservation is the best estimate of them."""
        status, size = outcome.status, outcome.bytes_in
        if status >= 500 and status != 504:
            return NOTHING
        if 400 <= status < 500:
            return self._amounts(outcome.model, size, 0.0, 0.0, 0.0, 0.0, prices)
        if outcome.input_tokens is not None:
            return self._amounts(
                outcome.model, size, outcome.input_tokens, outcome.cached_tokens, outcome.output_tokens,
                outcome.audio_seconds, prices,
            )  # fmt: skip
        if outcome.audio_seconds:
            return self._amounts(outcome.model, size, 0.0, 0.0, 0.0, outcome.audio_seconds, prices)
        if not outcome.ended_early and 200 <= status < 300:
            return None
        most = max(self._means.get(outcome.model, MEAN_INPUT) * 100, 1e5)
        inputs = float(int(min(self._ratios.tokens(outcome.model, size), most)) + 1)
        return self._amounts(outcome.model, size, inputs, 0.0, float(streamed_tokens(outcome.events)), 0.0, prices)

    def learn(self, outcome: Outcome) -> None:
        """Take a success with its usage into account."""
        if outcome.input_tokens is None or not 200 <= outcome.status < 300:
            return
        if outcome.input_tokens > 0:
            mean = self._means.get(outcome.model, MEAN_INPUT)
            if len(self._means) >= MAX_REMEMBERED:
                self._means.clear()
            self._means[outcome.model] = mean + (1 - _DECAY) * (outcome.input_tokens - mean)
        if outcome.output_tokens > 0:
            self._learn_output(outcome)

    def _learn_output(self, outcome: Outcome) -> None:
        """Move the quantile a step towards the answer: up three times as far as down."""
        name = outcome.caller, outcome.model
        before = self._outputs.get(name, float(outcome.output_tokens))
        step = max(before, 16.0) * 0.05
        if outcome.output_tokens > before:
            before += step * _QUANTILE
        elif outcome.output_tokens < before:
            before = max(1.0, before - step * (1 - _QUANTILE))
        if len(self._outputs) >= MAX_REMEMBERED:
            self._outputs.clear()
        self._outputs[name] = before

    def _usual_output(self, demand: Demand) -> float:
        return float(int(self._outputs.get((demand.caller, demand.model), FIRST_OUTPUT)) + 1)

    def _amounts(
        self,
        model: str,
        size: int,
        inputs: float,
        cached: float,
        outputs: float,
        audio: float,
        prices: PriceList | None,
    ) -> Amounts:
        counted = inputs - int(cached * (1 - self._cached_weight)) if cached else inputs
        cost = 0.0 if prices is None else float(-int(-prices.cost(model, inputs, cached, outputs, audio) // 1))
        return (1.0, counted, outputs, counted + outputs, float(size), float(int(audio * _AUDIO_UNITS)), cost, 1.0, 0.0)
