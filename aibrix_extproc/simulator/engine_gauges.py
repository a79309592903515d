"""The gauges of GET /metrics, read off the engine at the moment of asking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aibrix_extproc.simulator.metrics import Gauge, Labels

if TYPE_CHECKING:
    from aibrix_extproc.simulator.engine import Engine

_SLEEP_STATES = {"awake": None, "weights_offloaded": 1, "discard_all": 2}


def engine_gauges(engine: Engine) -> list[Gauge]:
    """All gauges with their series."""
    common, scheduler = engine.metrics.common, engine.scheduler
    # A halted vLLM makes no steps and so does not count requests that came meanwhile: measured, 4 hanging, gauge 0.
    waiting = 0 if scheduler.frozen else sum(claim.sequences for claim in scheduler.waiting.values())
    deferred = 0 if scheduler.frozen else scheduler.deferred()

    def one(name: str, text: str, value: float) -> Gauge:
        return Gauge(name, text, {common: value})

    return [
        one("num_requests_running", "Number of requests in model execution batches.", scheduler.running_sequences),
        one("num_requests_waiting", "Number of requests waiting to be processed.", waiting),
        Gauge(
            "num_requests_waiting_by_reason",
            "Number of waiting requests by reason.",
            {
                _with(common, reason="capacity"): waiting - deferred,
                _with(common, reason="deferred"): deferred,
            },
        ),
        one("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", scheduler.cache_usage),
        Gauge("engine_sleep_state", "Engine sleep state; awake = 0 means engine is sleeping.", _sleep_series(engine)),
        Gauge(
            "lora_requests_info",
            "Running stats on lora requests.",
            {
                (
                    ("max_lora", str(engine.options.max_loras)),
                    ("running_lora_adapters", running),
                    ("waiting_lora_adapters", queued),
                ): seen_at
                for (running, queued), seen_at in engine.adapter_history.items()
            },
        ),
        Gauge("cache_config_info", "Information of the LLMEngine CacheConfig", {_cache_config(engine): 1.0}),
    ]


def _with(common: Labels, **extra: str) -> Labels:
    return tuple(sorted((*common, *extra.items())))


def _sleep_series(engine: Engine) -> dict[Labels, float]:
    level = engine.sleep_level or None
    return {
        _with(engine.metrics.common, sleep_state=state): float(level == of_level)
        for state, of_level in _SLEEP_STATES.items()
    }


def _cache_config(engine: Engine) -> Labels:
    options = engine.options
    tokens = options.num_blocks * options.block_size
    fields = {
        "block_size": options.block_size,
        "effective_attention_block_size": options.block_size,
        "hash_block_size": options.block_size,
        "num_gpu_blocks": options.num_blocks,
        "num_gpu_blocks_override": None,
        "num_cpu_blocks": None,
        "kv_cache_size_tokens": tokens,
        "kv_cache_max_concurrency": tokens / options.max_model_len,
        "enable_prefix_caching": options.prefix_caching,
        "prefix_caching_hash_algo": "sha256",
        "cache_dtype": "auto",
        "gpu_memory_utilization": 0.9,
        "engine": 0,
    }
    return tuple(sorted((key, str(value)) for key, value in fields.items()))
