"""Tokens that callers have used lately, and how that compares with an equal share."""

from math import exp
from typing import Final

from aibrix_extproc.core.openai.wire.usage import Usage

WINDOW_SECONDS: Final = 150.0  # after which a token counts for a third (1/e)
OUTPUT_WEIGHT: Final = 2.0  # of an output token, as with AIBrix; an input token that was not cached counts once
MAX_CALLERS: Final = 1000
_REBASE: Final = 50.0  # windows after which numbers are made small again


class CallerTokens:
    """One for a process. `now` is in seconds of one monotonic clock.

    All amounts fade alike, so they are kept in units that grow with time, and only new ones are scaled.
    """

    def __init__(self) -> None:
        self._amounts: dict[str, float] = {}
        self._total = 0.0
        self._epoch = 0.0

    def charged(self, caller: str, usage: Usage, now: float) -> None:
        """Count what an exchange cost."""
        fresh = max(usage.input_tokens - usage.cached_tokens, 0)
        self.add(caller, fresh + OUTPUT_WEIGHT * usage.output_tokens, now)

    def add(self, caller: str, tokens: float, now: float) -> None:
        """Count tokens of a caller."""
        if now - self._epoch > _REBASE * WINDOW_SECONDS:
            self._rebase(now)
        amount = tokens * exp((now - self._epoch) / WINDOW_SECONDS)
        if caller not in self._amounts and len(self._amounts) >= MAX_CALLERS:
            least = min(self._amounts, key=self._amounts.__getitem__)
            self._total -= self._amounts.pop(least)
        self._amounts[caller] = self._amounts.get(caller, 0.0) + amount
        self._total += amount

    def excess(self, caller: str) -> float:
        """How many times its equal share a caller has used; 1 or less is no excess."""
        amount = self._amounts.get(caller, 0.0)
        return amount * len(self._amounts) / self._total if amount and self._total > 0.0 else 0.0

    def _rebase(self, now: float) -> None:
        shrunk = exp((self._epoch - now) / WINDOW_SECONDS)
        kept = {caller: amount * shrunk for caller, amount in self._amounts.items()}
        self._amounts = {caller: amount for caller, amount in kept.items() if amount >= 1.0}
        self._total, self._epoch = sum(self._amounts.values()), now
