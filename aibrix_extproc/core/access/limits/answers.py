"""Answers to limited callers: headers in OpenAI's and Anthropic's forms, and refusals in OpenAI's words."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from aibrix_extproc.core.access.limits.amounts import Quantity, Reset
from aibrix_extproc.core.access.limits.book import OF_ONE, TOKENS, Plan, Term
from aibrix_extproc.core.access.limits.counters import EPOCH, Reading, fits_after, full_after, remaining
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import shown

Headers = tuple[tuple[str, str], ...]
PATIENCE_SECONDS: Final = 60  # SDKs do not wait longer, so they need not try again


_WORDS: Final[Mapping[Quantity, tuple[str, str]]] = {
    Quantity.REQUESTS: ("requests", "RP"),
    Quantity.TOKENS: ("tokens", "TP"),
    Quantity.INPUT_TOKENS: ("input tokens", "ITP"),
    Quantity.OUTPUT_TOKENS: ("output tokens", "OTP"),
    Quantity.BYTES: ("bytes", "BP"),
    Quantity.AUDIO_SECONDS: ("audio seconds", "ASP"),
}
_PERIODS: Final = {"minute": ("min", "M"), "hour": ("hour", "H"), "day": ("day", "D")}
_OF_REQUESTS: Final = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
_OF_TOKENS: Final = ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")
_ANTHROPIC: Final[Mapping[Quantity, str]] = {
    Quantity.REQUESTS: "requests",
    Quantity.TOKENS: "tokens",
    Quantity.INPUT_TOKENS: "input-tokens",
    Quantity.OUTPUT_TOKENS: "output-tokens",
}


def go_duration(micros: float) -> str:
    """As Go writes it: `12ms`, `1.5s`, `6m0s`, `1h0m0s`. Rounded up to milliseconds, so that nobody comes too early."""
    ms = math.ceil(micros / 1000)
    if ms <= 0:
        return "0s"
    if ms < 1000:
        return f"{ms}ms"
    seconds, rest = divmod(ms, 1000)
    fraction = f".{rest:03}".rstrip("0") if rest else ""
    minutes, seconds = divmod(seconds, 60)
    if not minutes:
        return f"{seconds}{fraction}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}{fraction}s" if hours else f"{minutes}m{seconds}{fraction}s"


def openai_headers(plan: Plan, reading: Reading) -> Headers:
    """Three headers for requests and three for tokens, each of the limit with the least remaining share."""
    found = _three(_OF_REQUESTS, plan, reading, plan.of_requests)
    return found + _three(_OF_TOKENS, plan, reading, plan.of_tokens)


def _three(names: tuple[str, str, str], plan: Plan, reading: Reading, indices: tuple[int, ...]) -> Headers:
    if not indices:
        return ()
    now, states, claims = reading.now, reading.states, plan.claims
    tightest = indices[0]
    if len(indices) > 1:
        most = -1.0
        for index in indices:
            claim = claims[index]  # a bucket, as all limits of requests and tokens are
            share = (states[index] - now) / (claim.amount * claim.span)
            if share > most:
                tightest, most = index, share
    claim, state = claims[tightest], states[tightest]
    left = claim.amount - max(state - now, 0.0) / claim.span
    limit, remains, reset = names
    return (
        (limit, str(int(claim.amount))),
        (remains, str(int(left + 1e-6)) if left > 0 else "0"),
        (reset, go_duration(state - now)),
    )


def anthropic_headers(plan: Plan, reading: Reading) -> Headers:
    """Limit, remaining and the time at which it is full again, for each kind of limit that there is."""
    tightest: dict[str, tuple[float, int]] = {}
    for index, term in enumerate(plan.terms):
        name = _ANTHROPIC.get(term.row.quantity)
        if name is not None and not term.claim.soft:
            share = remaining(term.claim, reading.states[index], reading.now) / term.claim.amount
            tightest[name] = min(tightest.get(name, (2.0, index)), (share, index))
    found: list[tuple[str, str]] = []
    for name, (_, index) in tightest.items():
        claim, state = plan.terms[index].claim, reading.states[index]
        full_at = math.ceil((reading.now + full_after(claim, state, reading.now)) / 1e6) + EPOCH
        found += (
            (f"anthropic-ratelimit-{name}-limit", str(int(claim.amount))),
            (f"anthropic-ratelimit-{name}-remaining", str(int(remaining(claim, state, reading.now) + 1e-6))),
            (f"anthropic-ratelimit-{name}-reset", rfc3339(full_at)),
        )
    return tuple(found)


def rfc3339(seconds: int) -> str:
    """A time since the epoch of Unix, in UTC."""
    days, rest = divmod(seconds, 86_400)
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153  # months from March
    day, month = day_of_year - (153 * shifted + 2) // 5 + 1, shifted + 3 if shifted < 10 else shifted - 9
    year = year_of_era + era * 400 + (month <= 2)
    return f"{year:04}-{month:02}-{day:02}T{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}Z"


def refusal(plan: Plan, reading: Reading, costs: Sequence[float], model: str, headers: Headers) -> Problem:
    """The refusal of a request that the claim of the reading refused. `headers`: those that every answer has."""
    index = reading.refused
    term, cost, state = plan.terms[index], costs[index], reading.states[index]
    if term.row.reset is Reset.CALENDAR:
        return Problem("insufficient_quota", {"what": _budget(term)}, headers=headers)
    if term.row.reset is Reset.RELEASED:
        values = {"model": _for(model), "limit": str(int(term.limit)), "used": str(int(state))}
        return Problem("too_many_concurrent_requests", values, headers=headers)
    wait = fits_after(term.claim, state, cost, reading.now)
    limit, units = term.claim.amount, term.row.units
    left = remaining(term.claim, state, reading.now)
    values = {
        "model": _for(model),
        "what": _what(term),
        "limit": _number(limit / units),
        "used": _number(math.ceil(limit - left) / units),
        "requested": _number(cost / units),
        "wait": go_duration(wait),
    }
    key = "token_limit_reached" if term.row.quantity in TOKENS else "request_limit_reached"
    return Problem(key, values, headers=(*headers, *retry_headers(wait)))


def none_fits(plan: Plan, reading: Reading) -> int | None:
    """The place of a limit of requests, or of requests at once, that has no place for one more."""
    longest, found = 0.0, None
    for index, term in enumerate(plan.terms):
        if term.row.quantity in OF_ONE and not term.claim.soft:
            state = reading.states[index]
            wait = fits_after(term.claim, state, 1.0, reading.now)
            if term.row.reset is Reset.RELEASED and state + 1 > term.claim.amount:
                wait = 1.0
            if wait > longest:
                longest, found = wait, index
    return found


def never_fits(plan: Plan, costs: Sequence[float]) -> int | None:
    """The place of a limit that the request is larger than, so that it could never pass."""
    for index in plan.of_size:
        if costs[index] > plan.claims[index].amount:
            return index
    return None


def too_large(plan: Plan, index: int, costs: Sequence[float], model: str, headers: Headers) -> Problem:
    """The refusal of a request that is larger than this limit. `headers`: those that every answer has."""
    term = plan.terms[index]
    values = {
        "model": _for(model),
        "what": _budget(term) if term.row.reset is Reset.CALENDAR else _what(term),
        "limit": _number(term.limit),
        "requested": _number(costs[index] / term.row.units),
    }
    return Problem("larger_than_limit", values, headers=headers)


def retry_headers(micros: float) -> Headers:
    """The wait until the next try, in both units; one of over a minute is told by the text, and not waited for."""
    ms = max(math.ceil(micros / 1000), 1)
    if ms <= PATIENCE_SECONDS * 1000:
        return (("retry-after", str(-(-ms // 1000))), ("retry-after-ms", str(ms)))
    patience = str(PATIENCE_SECONDS)
    return (("retry-after", patience), ("retry-after-ms", f"{patience}000"), ("x-should-retry", "false"))


def _what(term: Term) -> str:
    words, letters = _WORDS.get(term.row.quantity, (term.row.quantity.value.replace("_", " "), ""))
    period, letter = _PERIODS.get(term.row.period, (term.row.period, ""))
    return f"{words} per {period} ({letters}{letter})" if letters and letter else words


def _budget(term: Term) -> str:
    return f"budget per {term.row.period}"


def _for(model: str) -> str:
    return shown(model, 128) if model else "this operation"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.6f}".rstrip("0")
