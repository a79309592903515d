"""The work of a request in seconds of an engine: what fairness counts.

Shares of an engine are compared, so only the ratio of prefill and decode matters, and nominal speeds do: those of a
medium model on one GPU, with a full batch. VTC (Sheng et al. 2024) gives a token of the answer twice the weight of one
of the prompt; four is nearer to what chunked prefill costs beside a batch of 32.
"""

from typing import Final

from aibrix_extproc.core.openai.wire.sizes import BYTES_PER_TOKEN
from aibrix_extproc.core.openai.wire.usage import Usage

PREFILL_SECONDS: Final = 1 / 8000  # of a token that is in no cache
DECODE_SECONDS: Final = 1 / 2000
_FIRST_OUTPUT: Final = 256.0  # tokens, of a caller that has had no answer
_WEIGHT: Final = 0.2  # of a new answer
_MAX_CALLERS: Final = 4096


class WorkEstimates:
    """Learns for each caller how long answers are, and how much of the prompts comes from caches."""

    def __init__(self) -> None:
        self._callers: dict[str, tuple[float, float]] = {}  # tokens of an answer; part of the bytes that is computed

    def estimated(self, caller: str, body_bytes: int, max_tokens: int | None) -> float:
        """Seconds for a request that has not run."""
        output, computed = self._callers.get(caller, (_FIRST_OUTPUT, 1.0))
        if max_tokens is not None:
            output = min(output, max_tokens)
        return body_bytes / BYTES_PER_TOKEN * computed * PREFILL_SECONDS + output * DECODE_SECONDS

    def learn(self, caller: str, body_bytes: int, usage: Usage) -> float:
        """What a request has taken, in seconds; the next estimates follow it."""
        computed = max(usage.input_tokens - usage.cached_tokens, 0)
        output = max(usage.output_tokens, 0)
        if body_bytes > 0:
            before = self._callers.get(caller)
            now = float(output), min(computed * BYTES_PER_TOKEN / body_bytes, 4.0)
            if len(self._callers) >= _MAX_CALLERS and before is None:
                self._callers.clear()
            self._callers[caller] = (
                now
                if before is None
                else tuple(  # type: ignore[assignment]
                    old + _WEIGHT * (new - old) for old, new in zip(before, now, strict=True)
                )
            )
        return computed * PREFILL_SECONDS + output * DECODE_SECONDS
