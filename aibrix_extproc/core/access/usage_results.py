"""Sums of usage as OpenAI's result objects."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.access.limits.records import PriceRecord
from aibrix_extproc.core.access.usage_query import UsageQuery, page_name
from aibrix_extproc.core.access.usage_sums import Series, Sums
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Operation
from aibrix_extproc.core.openai.contract.rows.operations_inference import GENERATE, TRANSCRIBE

Object = Mapping[str, object]
_MILLION: Final = 1_000_000

# A field of a result -> its value of a series. A field that is not asked for is null.
FIELDS: Final[Mapping[str, Callable[[Series], object]]] = MappingProxyType({
    "project_id": lambda _: None,
    "user_id": lambda series: series.caller,
    "api_key_id": lambda series: series.key_id or None,
    "model": lambda series: series.model,
    "batch": lambda series: series.batch,
    "operation": lambda series: series.operation,
    "service_tier": lambda _: None,
    "api_source": lambda _: "unlabeled",
})  # fmt: skip


def _tokens(sums: Sums) -> Object:
    return {
        "input_tokens": sums.input_tokens, "input_cached_tokens": sums.cached_tokens,
        "input_uncached_tokens": sums.input_tokens - sums.cached_tokens, "output_tokens": sums.output_tokens,
        "num_model_requests": sums.requests,
    }  # fmt: skip


def _everything(sums: Sums) -> Object:
    return {
        **_tokens(sums), "output_reasoning_tokens": sums.reasoning_tokens, "audio_seconds": sums.audio_seconds,
        "num_failed_requests": sums.failed, "num_estimated_requests": sums.estimated,
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of usage: what it counts, of which operations, and by what it can be grouped."""

    object: str
    groups: tuple[str, ...]
    values: Callable[[Sums], Object]
    counts: Callable[[Operation], bool]


def _generates(operation: Operation) -> bool:
    return bool(operation.tasks & GENERATE)


def _transcribes(operation: Operation) -> bool:
    return bool(operation.tasks & TRANSCRIBE)


def _embeds(operation: Operation) -> bool:
    """Vectors, classes and scores: what reads tokens and writes none."""
    return bool(operation.tasks) and not _generates(operation) and not _transcribes(operation)


def _nothing(_: Operation) -> bool:
    return False


_NAMED: Final = ("project_id", "user_id", "api_key_id", "model")


def _input_only(sums: Sums) -> Object:
    return {"input_tokens": sums.input_tokens, "num_model_requests": sums.requests}


def _seconds(sums: Sums) -> Object:
    return {"seconds": round(sums.audio_seconds), "num_model_requests": sums.requests}


# By the last part of the path. OpenAI has kinds that nothing here counts as; they are always empty.
KINDS: Final[Mapping[str, Kind]] = MappingProxyType({
    "completions": Kind(
        "organization.usage.completions.result", (*_NAMED, "batch", "service_tier", "api_source"), _tokens, _generates,
    ),
    "embeddings": Kind("organization.usage.embeddings.result", _NAMED, _input_only, _embeds),
    "audio_transcriptions": Kind("organization.usage.audio_transcriptions.result", _NAMED, _seconds, _transcribes),
    **{
        name: Kind(f"organization.usage.{name}.result", _NAMED, _tokens, _nothing)
        for name in ("moderations", "images", "audio_speeches", "vector_stores", "code_interpreter_sessions")
    },
})  # fmt: skip
OWN: Final = Kind("usage.result", ("api_key_id", "model", "batch", "operation"), _everything, lambda _: True)


def operations_of(kind: Kind) -> frozenset[str]:
    """Ids of the operations that count as this kind."""
    return frozenset(row.id for row in OPERATIONS if kind.counts(row))


def result(kind: Kind, series: Series, sums: Sums, group_by: Iterable[str]) -> dict[str, object]:
    """One result object."""
    return {"object": kind.object, **kind.values(sums), **_names(kind.groups, series, group_by)}


def _names(fields: Iterable[str], series: Series, group_by: Iterable[str]) -> Object:
    wanted = frozenset(group_by)
    return {name: FIELDS[name](series) if name in wanted else None for name in fields}


def page(query: UsageQuery, results: Mapping[int, list[dict[str, object]]]) -> dict[str, object]:
    """The page object: all buckets, also empty ones. `results` by the start of their bucket."""
    return {
        "object": "page",
        "data": [
            {
                "object": "bucket", "start_time": start, "end_time": start + query.width,
                "results": results.get(start, []),
            }
            for start in query.starts()
        ],
        "has_more": query.has_more,
        "next_page": page_name(query.page_end) if query.has_more else None,
    }  # fmt: skip


COST_GROUPS: Final = ("project_id", "user_id", "api_key_id", "line_item", "api_source")
_ITEMS: Final = ("input_tokens", "cached_input_tokens", "output_tokens", "audio_minutes", "requests")


def line_items(sums: Sums, price: PriceRecord) -> dict[str, tuple[float, float]]:
    """Quantity and amount of each item that has a price; failed requests cost nothing by themselves."""
    prices = price.prices
    cached = sums.cached_tokens if "cached_input_tokens" in prices else 0
    quantities = (
        sums.input_tokens - cached, cached, sums.output_tokens, sums.audio_seconds / 60, sums.requests - sums.failed,
    )  # fmt: skip
    return {
        name: (quantity, quantity * prices[name] / (_MILLION if name.endswith("tokens") else 1))
        for name, quantity in zip(_ITEMS, quantities, strict=True)
        if name in prices and quantity
    }


def costs(
    rows: Iterable[tuple[Series, Sums]],
    price_of: Callable[[str], PriceRecord | None],
    group_by: tuple[str, ...],
    currency: str,
) -> list[dict[str, object]]:
    """The cost objects of one bucket, summed by what the query groups by."""
    found: dict[tuple[object, ...], tuple[float, float]] = {}
    for series, sums in rows:
        price = price_of(series.model)
        for item, (quantity, amount) in ({} if price is None else line_items(sums, price)).items():
            line = f"{series.model}, {item}"
            place = tuple(line if one == "line_item" else FIELDS[one](series) for one in group_by)
            before = found.get(place, (0.0, 0.0))
            found[place] = before[0] + quantity, before[1] + amount
    return [
        _cost(dict(zip(group_by, place, strict=True)), quantity, amount, currency)
        for place, (quantity, amount) in found.items()
    ]


def _cost(names: Mapping[str, object], quantity: float, amount: float, currency: str) -> dict[str, object]:
    return {
        "object": "organization.costs.result", "amount": {"value": amount, "currency": currency},
        **{name: names.get(name) for name in COST_GROUPS}, "quantity": quantity if "line_item" in names else None,
    }  # fmt: skip
