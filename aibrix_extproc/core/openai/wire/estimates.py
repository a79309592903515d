"""How many tokens there probably were, where no engine has reported them: the estimate of limits, usage and routing."""

from collections.abc import Iterator
from typing import Final

MAX_MODELS: Final = 1_000  # that are remembered
_FIRST: Final = 40.0, 10.0  # bytes and tokens, until a model has reported any
_DECAY: Final = 0.98
_PLAUSIBLE: Final = (0.5, 30.0)  # bytes for a token; others are of media, or of token ids


class InputRatios:
    """Input tokens for a byte of the request, of each model: decayed sums, so that long texts count more than short."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}  # bytes, tokens

    def learn(self, model: str, body_bytes: int, input_tokens: int) -> None:
        """An engine has reported the input tokens of a request with a body of this size."""
        if input_tokens <= 0 or not _PLAUSIBLE[0] <= body_bytes / input_tokens <= _PLAUSIBLE[1]:
            return
        size, tokens = self._sums.get(model, _FIRST)
        if len(self._sums) >= MAX_MODELS and model not in self._sums:
            del self._sums[next(iter(self._sums))]
        self._sums[model] = size * _DECAY + body_bytes, tokens * _DECAY + input_tokens

    def known(self) -> Iterator[tuple[str, tuple[float, float]]]:
        """Models, with the sums of bytes and tokens."""
        return iter(self._sums.items())

    def remember(self, model: str, size: float, tokens: float) -> None:
        """What another process has learned of a model, if nothing is known of it here."""
        if model not in self._sums and len(self._sums) < MAX_MODELS and _PLAUSIBLE[0] <= size / tokens <= _PLAUSIBLE[1]:
            self._sums[model] = size, tokens

    def ratio(self, model: str) -> float:
        """Tokens for a byte of a request."""
        size, tokens = self._sums.get(model, _FIRST)
        return tokens / size

    def tokens(self, model: str, body_bytes: int) -> int:
        """The input tokens that a request of this size probably had."""
        return round(body_bytes * self.ratio(model))


def streamed_tokens(events: int) -> int:
    """The tokens of a stream that broke off after so many events: the first one has the role alone."""
    return max(events - 1, 0)
