"""Reads one engine's metrics page: the few series that placement uses, out of a text of 50 KB or more.

One regular expression finds the lines of an engine's dialect, so the cost hardly depends on what else is on the page.
Nothing on a page raises: a value that makes no sense counts as absent, and a page without known series gives nothing.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from aibrix_extproc.core.fleet.gauges import EngineGauges

MAX_SAMPLES: Final = 10_000  # of one page; old vLLMs keep a series for each set of adapters that ever ran
MAX_REQUESTS: Final = 1e6  # at one engine; more makes no sense
MAX_COUNTER: Final = 2.0**53
MAX_TOKENS: Final = 2**40  # of a KV cache
MAX_ADAPTERS: Final = 4096
_ABOVE_ONE: Final = 1.01  # a part that is a little over 1 by rounding

_LABEL_VALUE: Final = re.compile(rb'(?:[^"\\]|\\.)*')

_GAPS: Final = "inter_token_latency_seconds"

# What to read -> the series of vLLM, SGLang and TensorRT-LLM; empty: it has none.
_SERIES: Final[Mapping[str, tuple[str, str, str]]] = {
    "running": ("num_requests_running", "num_running_reqs", "num_requests_running"),
    "waiting": ("num_requests_waiting", "num_queue_reqs", "num_requests_waiting"),
    "kv_usage": ("kv_cache_usage_perc", "token_usage", "kv_cache_utilization"),
    "cache_tokens": ("", "max_total_num_tokens", ""),
    "max_blocks": ("", "", "kv_cache_max_blocks"),
    "block_tokens": ("", "", "kv_cache_tokens_per_block"),
    "sleep_state": ("engine_sleep_state", "", ""),
    "adapters": ("lora_requests_info", "", ""),
    "cache_config": ("cache_config_info", "", ""),
    "preemptions": ("num_preemptions_total", "", ""),
    "rejections": ("admission_rejections_total", "", ""),
    "cache_queries": ("prefix_cache_queries_total", "", ""),
    "cache_hits": ("prefix_cache_hits_total", "cached_tokens_total", "prompt_cached_tokens_total"),
    "prompt_tokens": ("prompt_tokens_total",) * 3,
    "generation_tokens": ("generation_tokens_total",) * 3,
    "first_tokens": ("time_to_first_token_seconds_count",) * 3,
    "first_token_seconds": ("time_to_first_token_seconds_sum",) * 3,
    "token_gaps": (_GAPS + "_count", _GAPS + "_count", "time_per_output_token_seconds_count"),
    "token_gap_seconds": (_GAPS + "_sum", _GAPS + "_sum", "time_per_output_token_seconds_sum"),
}
COUNTERS: Final = (
    "preemptions", "rejections", "cache_queries", "cache_hits", "prompt_tokens", "generation_tokens",
    "first_tokens", "first_token_seconds", "token_gaps", "token_gap_seconds",
)  # fmt: skip
_BY_LABELS: Final = frozenset({"sleep_state", "adapters", "cache_config"})  # whose labels are what is read


@dataclass(frozen=True, slots=True)
class _Dialect:
    """The names of one kind of engine."""

    fields: Mapping[bytes, str]  # by series
    pattern: re.Pattern[bytes]


def _dialect(column: int, prefix: str) -> _Dialect:
    fields = {f"{prefix}{names[column]}".encode(): name for name, names in _SERIES.items() if names[column]}
    fields[b"engine_utilization"] = "utilization"
    names = b"|".join(re.escape(name) for name in fields)
    return _Dialect(fields, re.compile(rb"\n(" + names + rb")(?:\{([^\n]*)\})? ([^\n ]*)"))


# By the series that tells the dialect. A gateway in front of engines may repeat several; the first one here counts.
_DIALECTS: Final = (
    (b"\nvllm:num_requests_running", _dialect(0, "vllm:")),
    (b"\nsglang:num_running_reqs", _dialect(1, "sglang:")),
    (b"\ntrtllm_", _dialect(2, "trtllm_")),
)


@dataclass(frozen=True, slots=True)
class _Found:
    """The samples of a page that count, by field."""

    values: dict[str, list[float]] = field(default_factory=dict)
    labels: dict[str, list[tuple[bytes, float]]] = field(default_factory=dict)  # of the series that are read by them


def read_page(text: bytes, at: float, own: int = 0, models: Iterable[str] = ()) -> EngineGauges | None:
    """The reading on a metrics page that came at `at`; None if it is no page of an engine that we know.

    `own`: our exchanges at the engine. `models`: the names that it serves; if the page speaks of several models, only
    what it says of these counts. A last line without an end was cut and does not count.
    """
    page = b"\n" + text[: text.rfind(b"\n") + 1]
    for sign, dialect in _DIALECTS:
        if sign in page:
            found = _found(page, dialect, {name.encode() for name in models})
            return None if found is None else _reading(found, at, own)
    return None


def _found(page: bytes, dialect: _Dialect, models: set[bytes]) -> _Found | None:
    origins: dict[bytes, bytes | None] = {}  # by the labels of a series, which many have in common
    samples = []
    for one in islice(dialect.pattern.finditer(page), MAX_SAMPLES):
        name, labels, text = one.groups()
        labels = labels or b""
        if labels not in origins:
            origins[labels] = _origin(labels)
        origin, value = origins[labels], _number(text)
        if origin is not None and value is not None:
            samples.append((dialect.fields[name], labels, origin, value))
    named = {origin for origin in origins.values() if origin}
    if len(named) > 1:
        if not named & models:
            return None  # of other engines
        samples = [one for one in samples if not one[2] or one[2] in models]
    found = _Found()
    for field_name, labels, _, value in samples:
        if field_name in _BY_LABELS:
            found.labels.setdefault(field_name, []).append((labels, value))
        else:
            found.values.setdefault(field_name, []).append(value)
    return found


def _origin(labels: bytes) -> bytes | None:
    """The model that a series is about, empty if it does not say; None if another series says the same.

    Those are SGLang's further ranks of a model, and its shares by priority.
    """
    for name in (b"tp_rank", b"pp_rank", b"priority"):
        if name in labels and _label(labels, name) not in (b"", b"0"):
            return None
    return _label(labels, b"model_name")


def _reading(found: _Found, at: float, own: int) -> EngineGauges:
    def total(name: str, most: float) -> float | None:
        values = found.values.get(name)
        return None if values is None or sum(values) > most else sum(values)

    def part(name: str) -> float | None:
        values = found.values.get(name)
        mean = math.inf if values is None else sum(values) / len(values)  # of the ranks
        return min(mean, 1.0) if mean <= _ABOVE_ONE else None

    cache, block = _cache_size(found)
    running, waiting, most = _adapters(found.labels.get("adapters", ()))
    return EngineGauges(
        at=at,
        own=own,
        running=total("running", MAX_REQUESTS),
        waiting=total("waiting", MAX_REQUESTS),
        kv_usage=part("kv_usage"),
        cache_tokens=cache,
        block_tokens=block,
        keeps_prefixes=_keeps_prefixes(found.labels.get("cache_config", ())),
        asleep=_asleep(found.labels.get("sleep_state", ())),
        running_adapters=running,
        waiting_adapters=waiting,
        max_adapters=most,
        utilization=part("utilization"),
        **{name: total(name, MAX_COUNTER) for name in COUNTERS},
    )


def _number(text: bytes) -> float | None:
    """A sample's value; None for one that is no number, infinite or negative."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 <= value < math.inf else None


def _label(labels: bytes, name: bytes) -> bytes:
    """A label's value as it is written, without its escapes resolved; empty if there is none."""
    start = -1
    while (start := labels.find(name + b'="', start + 1)) >= 0:
        if start == 0 or labels[start - 1 : start] == b",":
            value = _LABEL_VALUE.match(labels, start + len(name) + 2)
            return value[0] if value else b""
    return b""


def _tokens(text: bytes | float) -> int:
    """A size in tokens or blocks; 0 for one that makes no sense, as `None` of an engine that has not decided."""
    value = text if isinstance(text, float) else _number(text)
    return int(value) if value is not None and value <= MAX_TOKENS else 0


def _cache_size(found: _Found) -> tuple[int | None, int | None]:
    """Tokens of the KV cache, all ranks together, and of a block."""
    size = block = 0
    for labels, _ in found.labels.get("cache_config", ()):
        of_block = _tokens(_label(labels, b"block_size"))
        size += _tokens(_label(labels, b"kv_cache_size_tokens")) or of_block * _tokens(
            _label(labels, b"num_gpu_blocks")
        )
        block = of_block
    values = found.values
    if not size and "cache_tokens" in values:
        size = _tokens(sum(values["cache_tokens"]))
    if not size and "block_tokens" in values:
        block = _tokens(values["block_tokens"][0])
        size = block * _tokens(sum(values.get("max_blocks", (0.0,))))
    return size if 0 < size <= MAX_TOKENS else None, block or None


def _keeps_prefixes(series: Iterable[tuple[bytes, float]]) -> bool | None:
    """Whether prefix caching is on in all ranks."""
    said = {_label(labels, b"enable_prefix_caching") for labels, _ in series}
    return False if b"False" in said else (b"True" in said) or None


def _asleep(series: Iterable[tuple[bytes, float]]) -> bool | None:
    """Whether a rank is not awake: the series `awake` is 1 while it is."""
    awake = [value for labels, value in series if _label(labels, b"sleep_state") == b"awake"]
    return min(awake) < 1.0 if awake else None


def _adapters(series: Iterable[tuple[bytes, float]]) -> tuple[frozenset[str], frozenset[str], int | None]:
    """Running and waiting adapters, and how many may run: of vLLM's series the newest, whose value is its time."""
    labels, _ = max(series, key=lambda one: one[1], default=(b"", 0.0))
    most = _tokens(_label(labels, b"max_lora"))
    return _names(labels, b"running_lora_adapters"), _names(labels, b"waiting_lora_adapters"), most or None


def _names(labels: bytes, name: bytes) -> frozenset[str]:
    names = _label(labels, name).decode(errors="replace").split(",", MAX_ADAPTERS)[:MAX_ADAPTERS]
    return frozenset(one for one in names if one)
