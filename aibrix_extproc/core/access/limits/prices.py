"""The prices of tokens, audio and requests of a model."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

from aibrix_extproc.core.access.limits.amounts import MICRO
from aibrix_extproc.core.access.limits.records import PriceRecord

_TOKENS: Final = 1_000_000  # prices of tokens are by the million, and money is counted in millionths
_WILD: Final = frozenset("*?[")
MAX_REMEMBERED: Final = 10_000


class PriceList:
    """Prices by model: a name before every pattern, then the longest pattern."""

    def __init__(self, records: Iterable[PriceRecord]) -> None:
        records = tuple(records)
        self._exact = {record.model: record for record in records if _WILD.isdisjoint(record.model)}
        patterns = [record for record in records if not _WILD.isdisjoint(record.model)]
        self._patterns = sorted(patterns, key=lambda record: (-len(record.model), record.id))
        self._found: dict[str, PriceRecord | None] = {}

    def of(self, model: str) -> PriceRecord | None:
        """The record of a model, None if it has no price."""
        if model in self._found:
            return self._found[model]
        found = self._exact.get(model)
        if found is None:
            found = next((record for record in self._patterns if fnmatchcase(model, record.model)), None)
        if len(self._found) >= MAX_REMEMBERED:
            self._found.clear()
        self._found[model] = found
        return found

    def cost(
        self, model: str, input_tokens: float, cached_tokens: float, output_tokens: float, audio_seconds: float = 0.0
    ) -> float:
        """Of one request, in millionths of the currency, not rounded. Cached tokens are a part of the input."""
        record = self.of(model)
        if record is None:
            return 0.0
        price = record.prices
        base = price.get("input_tokens", 0)
        tokens = (
            (input_tokens - cached_tokens) * base
            + cached_tokens * price.get("cached_input_tokens", base)
            + output_tokens * price.get("output_tokens", 0)
        )
        others = audio_seconds / 60 * price.get("audio_minutes", 0) + price.get("requests", 0)
        return tokens / _TOKENS * MICRO + others * MICRO
