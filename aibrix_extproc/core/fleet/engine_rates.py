"""Rates of an engine, by the differences of its counters between readings; older differences fade out."""

from math import exp
from typing import Final

from aibrix_extproc.core.fleet.gauges import EngineGauges

WINDOW_SECONDS: Final = 30.0  # after which a difference counts for a third (1/e)


class EngineRates:
    """The faded sums of one engine. None as an answer: nothing of the kind was seen."""

    __slots__ = (
        "_busy_seconds", "_first_token_seconds", "_first_tokens", "_gap_seconds", "_gaps", "_generated", "_last",
        "_prompted", "_request_seconds", "_seconds",
    )  # fmt: skip

    def __init__(self, first: EngineGauges) -> None:
        self._last = first
        self._seconds = self._busy_seconds = self._request_seconds = 0.0
        self._prompted = self._generated = 0.0
        self._first_tokens = self._first_token_seconds = self._gaps = self._gap_seconds = 0.0

    def follow(self, reading: EngineGauges) -> bool:
        """Take in the next reading; false if it is of an engine that has started anew."""
        last, self._last = self._last, reading
        seconds = reading.at - last.at
        if seconds <= 0:
            return True
        if _fell(last.prompt_tokens, reading.prompt_tokens) or _fell(last.first_tokens, reading.first_tokens):
            return False
        keep = exp(-seconds / WINDOW_SECONDS)
        requests = (reading.running or 0.0) + (reading.waiting or 0.0)
        generated = _rise(last.generation_tokens, reading.generation_tokens)
        self._seconds = self._seconds * keep + seconds
        self._busy_seconds = self._busy_seconds * keep + (seconds if requests or generated else 0.0)
        self._request_seconds = self._request_seconds * keep + seconds * requests
        self._prompted = self._prompted * keep + _rise(last.prompt_tokens, reading.prompt_tokens)
        self._generated = self._generated * keep + generated
        self._first_tokens = self._first_tokens * keep + _rise(last.first_tokens, reading.first_tokens)
        self._first_token_seconds *= keep
        self._first_token_seconds += _rise(last.first_token_seconds, reading.first_token_seconds)
        self._gaps = self._gaps * keep + _rise(last.token_gaps, reading.token_gaps)
        self._gap_seconds = self._gap_seconds * keep + _rise(last.token_gap_seconds, reading.token_gap_seconds)
        return True

    @property
    def busy_share(self) -> float | None:
        """Part of the time with requests, 0 to 1, as far as the readings saw it."""
        return _ratio(self._busy_seconds, self._seconds)

    @property
    def mean_requests(self) -> float | None:
        """Running and waiting requests."""
        return _ratio(self._request_seconds, self._seconds)

    @property
    def weighted_tokens_per_second(self) -> float | None:
        """Tokens processed, those of prompts twice."""
        return _ratio(2.0 * self._prompted + self._generated, self._seconds)

    @property
    def weighted_tokens_per_request(self) -> float | None:
        """The same, for each request."""
        return _ratio(2.0 * self._prompted + self._generated, self._first_tokens)

    @property
    def generated_per_busy_second(self) -> float | None:
        """Tokens that it generates in a second in which it has requests: idle time does not make it look slow."""
        return _ratio(self._generated, self._busy_seconds) if self._generated else None

    @property
    def first_token_seconds_per_prompt_token(self) -> float | None:
        """The wait of requests for their first token, for each token of their prompts."""
        return _ratio(self._first_token_seconds, self._prompted)

    @property
    def seconds_per_token(self) -> float | None:
        """Between two tokens of a request."""
        return _ratio(self._gap_seconds, self._gaps)


def _fell(before: float | None, after: float | None) -> bool:
    return before is not None and after is not None and after < before


def _rise(before: float | None, after: float | None) -> float:
    return after - before if before is not None and after is not None and after > before else 0.0


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0.0 else None
