"""Estimates of tokens that no engine has reported: of prompts, and of streams that broke off before their usage."""

from typing import Final

MAX_MODELS: Final = 1_000  # that are remembered
_FIRST_RATIO: Final = 0.25  # tokens for a byte of a request, until a model has reported any
_WEIGHT: Final = 0.02  # of a new report
_PLAUSIBLE: Final = (1 / 30, 2.0)  # other ratios are of media, or of token ids


class InputRatios:
    """Tokens for a byte of the request, of each model, learned from the exchanges that reported them."""

    def __init__(self) -> None:
        self._ratios: dict[str, float] = {}

    def learn(self, model: str, body_bytes: int, input_tokens: int) -> None:
        """An engine has reported the input tokens of a request with a body of this size."""
        ratio = input_tokens / body_bytes if body_bytes else 0.0
        if not _PLAUSIBLE[0] <= ratio <= _PLAUSIBLE[1]:
            return
        known = self._ratios.get(model)
        if known is None and len(self._ratios) >= MAX_MODELS:
            del self._ratios[next(iter(self._ratios))]
        self._ratios[model] = ratio if known is None else known + _WEIGHT * (ratio - known)

    def ratio(self, model: str) -> float:
        """Tokens for a byte of a request."""
        return self._ratios.get(model, _FIRST_RATIO)

    def tokens(self, model: str, body_bytes: int) -> int:
        """The input tokens that a request of this size probably had."""
        return round(body_bytes * self.ratio(model))


def streamed_tokens(events: int) -> int:
    """The tokens of a stream that broke off after so many events: the first one has the role alone."""
    return max(events - 1, 0)
