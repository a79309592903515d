"""A decision record as JSON for people and tools, and as one header."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.routing.disaggregation.handover import Handover, Prefilled
from aibrix_extproc.core.routing.record import DecisionRecord, Trail

MAX_SHOWN: Final = 4  # candidates in the header
_DIGITS: Final = 6


def page(record: DecisionRecord) -> dict[str, Any]:
    """All of a record. Lists of an endpoint's values are in the order of `endpoints`."""
    trail = record.trail
    return {
        "request_id": record.request_id,
        "at": record.wall_at,
        "model": record.model,
        "strategy": record.strategy,
        "named_by": trail.reason.value,
        "degraded": [{"strategy": strategy, "reason": reason} for strategy, reason in record.degraded],
        "eligible": trail.eligible,
        "candidates": [one.address for one in record.candidates],
        "served_by": _address(record),
        "endpoints": [one.address for one in trail.endpoints],
        "scores": [
            {"strategy": part.strategy, "weight": part.weight, "scores": _rounded(part.scores)} for part in trail.parts
        ],
        "details": {name: _rounded(values) for name, values in trail.details.items()},
        "tick": trail.tick,
        "queue_seconds": _round(record.queue_seconds),
        "status": record.status,
        "outcome": record.outcome or "running",
        "head_seconds": _round(record.head_seconds),
        "ttft_seconds": _round(record.ttft_seconds),
        "predicted_ttft_seconds": _round(record.predicted_ttft_seconds),
        "prompt_tokens": record.prompt_tokens,
        "cached_tokens": record.cached_tokens,
        "predicted_cached_tokens": _round(record.predicted_cached_tokens),
        "prefill": None if record.handover is None else _prefill(record.handover, record.prefilled),
    }


def _prefill(handover: Handover, done: Prefilled | None) -> dict[str, Any]:
    """Who was to compute the prompt, and who did; `engine` is null while it is not known, and where none did."""
    page: dict[str, Any] = {
        "outcome": handover.outcome.value if done is None else done.outcome.value,
        "engines": [one.address for one in handover.engines],
        "engine": None if done is None or done.engine is None else done.engine.address,
        "uncached_tokens": _round(handover.uncached_tokens),
        "predicted_seconds": _round(handover.predicted_seconds),
        "seconds": None if done is None else _round(done.seconds),
        "predicted_cached_tokens": _round(handover.predicted_cached_tokens),
        "cached_tokens": None if done is None else done.cached_tokens,
    }
    if done is not None and done.failures:
        page["failures"] = [{"engine": address, "reason": reason} for address, reason in done.failures]
    return page


def header(
    strategy: str, candidates: Sequence[Endpoint], trail: Trail, degraded: tuple[tuple[str, str], ...], queued: float,
    handover: Handover | None = None,
) -> str:  # fmt: skip
    """What is known when a request is placed, as JSON on one line, with the values of the first candidates."""
    shown = candidates[:MAX_SHOWN]
    said: dict[str, object] = {
        "strategy": strategy,
        "named_by": trail.reason.value,
        "eligible": trail.eligible,
        "candidates": [_values(one, trail) for one in shown],
    }
    if degraded:
        said["degraded"] = [f"{name}:{reason}" for name, reason in degraded]
    if queued:
        said["queue_seconds"] = _round(queued)
    if handover is not None:
        said["prefill"] = _prefill(handover, None)
    return msgspec.json.encode(said).decode("ascii", "replace")


def _values(endpoint: Endpoint, trail: Trail) -> Mapping[str, object]:
    found: dict[str, object] = {"endpoint": endpoint.address}
    place = next((place for place, one in enumerate(trail.endpoints) if one.identity == endpoint.identity), None)
    if place is not None:
        for part in trail.parts:
            found[part.strategy] = _round(part.scores[place])
        for name, values in trail.details.items():
            found[name] = _round(values[place])
    return found


def _address(record: DecisionRecord) -> str | None:
    """Of the endpoint that the request is with, or was with at last."""
    return next((one.address for one in record.candidates if one.identity == record.served_by), None)


def _rounded(values: Sequence[float]) -> list[float | None]:
    return [_round(value) for value in values]


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
