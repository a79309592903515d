"""The engine's Prometheus metrics, written by hand.

One observation for all tokens of an answer costs what prometheus_client takes for each single one.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Final

Labels = tuple[tuple[str, str], ...]

_REQUEST_SECONDS: Final = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
_TTFT_SECONDS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
    640.0, 2560.0,
)  # fmt: skip
_ITL_SECONDS: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_TOKENS: Final = tuple(float(digit * 10**power) for power in range(7) for digit in (1, 2, 5))
"""Cut to the context length."""

# name, buckets, help
HISTOGRAMS: Final = (
    ("time_to_first_token_seconds", _TTFT_SECONDS, "Histogram of time to first token in seconds."),
    ("inter_token_latency_seconds", _ITL_SECONDS, "Histogram of inter-token latency in seconds."),
    ("request_time_per_output_token_seconds", _ITL_SECONDS, "Histogram of time_per_output_token_seconds per request."),
    ("e2e_request_latency_seconds", _REQUEST_SECONDS, "Histogram of e2e request latency in seconds."),
    ("request_queue_time_seconds", _REQUEST_SECONDS, "Histogram of time spent in WAITING phase for request."),
    ("request_inference_time_seconds", _REQUEST_SECONDS, "Histogram of time spent in RUNNING phase for request."),
    ("request_prefill_time_seconds", _REQUEST_SECONDS, "Histogram of time spent in PREFILL phase for request."),
    ("request_decode_time_seconds", _REQUEST_SECONDS, "Histogram of time spent in DECODE phase for request."),
    ("request_prompt_tokens", _TOKENS, "Number of prefill tokens processed."),
    ("request_generation_tokens", _TOKENS, "Number of generation tokens processed."),
    ("request_params_max_tokens", _TOKENS, "Histogram of the max_tokens request parameter."),
    ("request_prefill_kv_computed_tokens", _TOKENS, "Histogram of new KV tokens computed during prefill."),
    ("request_num_preemptions", (0.0, 1.0, 2.0, 5.0, 10.0), "Histogram of the number of preemptions per request."),
    ("request_params_n", (1.0, 2.0, 5.0, 10.0, 20.0), "Histogram of the n request parameter."),
)

# name, help
COUNTERS: Final = (
    ("prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens."),
    ("prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens."),
    ("external_prefix_cache_queries", "External prefix cache queries from KV connector, in tokens."),
    ("external_prefix_cache_hits", "External prefix cache hits from KV connector, in tokens."),
    ("mm_cache_queries", "Multi-modal cache queries, in terms of number of queried items."),
    ("mm_cache_hits", "Multi-modal cache hits, in terms of number of cached items."),
    ("prompt_tokens", "Number of prefill tokens processed."),
    ("prompt_tokens_by_source", "Number of prompt tokens by source."),
    ("prompt_tokens_cached", "Number of cached prompt tokens."),
    ("prompt_tokens_cached_by_source", "Prefix-cache hit tokens by the cache tier that supplied them."),
    ("generation_tokens", "Number of generation tokens processed."),
    ("request_success", "Count of successfully processed requests."),
    ("admission_rejections", "Count of requests rejected at admission."),
    ("num_preemptions", "Cumulative number of preemption from the engine."),
)

_LABELLED: Final = frozenset(
    {
        "prompt_tokens_by_source",
        "prompt_tokens_cached_by_source",
        "request_success",
        "admission_rejections",
    }
)
_NOT_COUNTED: Final = frozenset({"/metrics", "/health", "/load", "/ping", "/version", "/server_info"})


class Histogram:
    """Counts per bucket and their sum."""

    def __init__(self, buckets: tuple[float, ...]) -> None:
        self.buckets = buckets
        self.counts = [0] * (len(buckets) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, `times` times."""
        self.counts[bisect_left(self.buckets, value)] += times
        self.sum += value * times


class Metrics:
    """All counters and histograms of one engine; gauges are read with each scrape."""

    def __init__(self, model_name: str, started_at_wall: float, max_model_len: int) -> None:
        self.common: Labels = (("engine", "0"), ("model_name", model_name))
        self._started_at_wall = started_at_wall
        self._counters: dict[str, dict[Labels, float]] = {name: {} for name, _ in COUNTERS}
        self._histograms = {
            name: Histogram(tuple(edge for edge in buckets if buckets is not _TOKENS or edge <= max_model_len))
            for name, buckets, _ in HISTOGRAMS
        }
        self._model_name = model_name
        self._http: dict[Labels, float] = {}
        for name, _ in COUNTERS:
            if name not in _LABELLED:
                self.count(name, 0)
        for tier in ("device", "host", "p2p", "disk", "external_unspecified"):
            self.count("prompt_tokens_cached_by_source", 0, source=tier)
        for limit in ("max_num_queued_reqs", "max_num_queued_tokens"):
            self.reject(limit, 0)
        for reason in ("stop", "length", "abort", "error", "repetition"):
            self.count("request_success", 0, finished_reason=reason)
        for source in ("local_compute", "local_cache_hit", "external_kv_transfer"):
            self.count("prompt_tokens_by_source", 0, source=source)

    def count(self, name: str, amount: float = 1, **extra: str) -> None:
        """Add to a counter."""
        labels = tuple(sorted((*self.common, *extra.items()))) if extra else self.common
        series = self._counters[name]
        series[labels] = series.get(labels, 0.0) + amount

    def reject(self, reason: str, times: int = 1) -> None:
        """Count a refusal at admission, the one counter without an engine label."""
        series = self._counters["admission_rejections"]
        labels = (("model_name", self._model_name), ("reason", reason))
        series[labels] = series.get(labels, 0.0) + times

    def count_http(self, method: str, handler: str, status: int) -> None:
        """Count an HTTP answer as prometheus-fastapi-instrumentator does, without the routes it leaves out."""
        if handler in _NOT_COUNTED:
            return
        labels = (("handler", handler), ("method", method), ("status", f"{status // 100}xx"))
        self._http[labels] = self._http.get(labels, 0.0) + 1

    def observe(self, name: str, value: float, times: int = 1) -> None:
        """Add to a histogram."""
        self._histograms[name].observe(value, times)

    def value(self, name: str, **extra: str) -> float:
        """Read a counter."""
        return self._counters[name].get(tuple(sorted((*self.common, *extra.items()))), 0.0)

    def render(self, gauges: Iterable["Gauge"]) -> bytes:
        """The text exposition."""
        lines: list[str] = []
        for gauge in gauges:
            lines += _header(gauge.name, gauge.text, "gauge")
            lines += [_sample(gauge.name, labels, value) for labels, value in gauge.series.items()]
        for name, text in COUNTERS:
            full = f"vllm:{name}"
            lines += _header(f"{full}_total", text, "counter")
            lines += [_sample(f"{full}_total", labels, value) for labels, value in self._counters[name].items()]
            lines += _header(f"{full}_created", text, "gauge")
            lines += [_sample(f"{full}_created", labels, self._started_at_wall) for labels in self._counters[name]]
        for name, _, text in HISTOGRAMS:
            lines += self._render_histogram(f"vllm:{name}", text, self._histograms[name])
        lines += _header("http_requests_total", "Total number of requests by method, status and handler.", "counter")
        lines += [_sample("http_requests_total", labels, value) for labels, value in self._http.items()]
        return ("\n".join(lines) + "\n").encode()

    def _render_histogram(self, name: str, text: str, histogram: Histogram) -> list[str]:
        lines = _header(name, text, "histogram")
        running = 0
        for bound, count in zip((*histogram.buckets, float("inf")), histogram.counts, strict=True):
            running += count
            edge = "+Inf" if bound == float("inf") else str(bound)
            lines.append(_sample(f"{name}_bucket", tuple(sorted((*self.common, ("le", edge)))), running))
        lines.append(_sample(f"{name}_count", self.common, running))
        lines.append(_sample(f"{name}_sum", self.common, histogram.sum))
        return lines


class Gauge:
    """A gauge's name and its series at this moment."""

    def __init__(self, name: str, text: str, series: Mapping[Labels, float]) -> None:
        self.name = f"vllm:{name}"
        self.text = text
        self.series = series


def _header(name: str, text: str, kind: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _sample(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels)
    return f"{name}{{{inside}}} {float(value)}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
