"""Health, models, metrics, LoRA, pause and sleep."""

import json
import time
from typing import Final

from aibrix_extproc.simulator.errors import EngineError, Reply
from aibrix_extproc.simulator.query import boolean, integer, literal
from aibrix_extproc.simulator.reading import read_body
from aibrix_extproc.simulator.requests import LoadLoraBody, UnloadLoraBody
from aibrix_extproc.simulator.wire import Answer, Call, json_reply

_EMPTY: Final = Reply(200, b"", "")
_MODES: Final = ("abort", "wait", "keep")
_UNPAUSED: Final = (
    "Call to release_kv_cache_memory method failed: release_kv_cache_memory() requires a completed pause first"
)


async def health(call: Call) -> Answer:
    """Always well, asleep or not."""
    return _EMPTY


async def version(call: Call) -> Answer:
    """The version that is imitated."""
    return json_reply({"version": call.engine.options.version})


async def load(call: Call) -> Answer:
    """How many requests are in the engine; always none without the flag."""
    scheduler = call.engine.scheduler
    tracked = call.engine.options.server_load_tracking
    return json_reply({"server_load": len(scheduler.running) + len(scheduler.waiting) if tracked else 0})


async def metrics(call: Call) -> Answer:
    """Prometheus text."""
    return Reply(200, call.engine.render_metrics(), "text/plain; version=1.0.0; charset=utf-8")


async def models(call: Call) -> Answer:
    """Served names and adapters."""
    return json_reply(call.engine.models.listing(int(time.time())))


async def server_info(call: Call) -> Answer:
    """The configuration, as far as there is one."""
    options = call.engine.options
    form = literal(call, "config_format", ("text", "json"))
    config = {
        "model": options.root or options.base_model,
        "served_model_name": list(options.models),
        "max_model_len": options.max_model_len,
        "max_num_seqs": options.max_num_seqs,
        "seed": options.seed,
    }
    shown = config if form == "json" else repr(config)
    return json_reply({"vllm_config": shown, "vllm_env": {"VLLM_SERVER_DEV_MODE": True}, "system_env": {}})


async def tokenizer_info(call: Call) -> Answer:
    """The tokenizer's configuration."""
    return json_reply({"tokenizer_class": "SimulatedTokenizer", "chat_template": "{{ messages }}"})


async def load_adapter(call: Call) -> Answer:
    """Load a LoRA adapter."""
    body = read_body(call, LoadLoraBody)
    return Reply(200, call.engine.models.load(body.lora_name, body.lora_path, body.load_inplace).encode(), "")


async def unload_adapter(call: Call) -> Answer:
    """Unload a LoRA adapter."""
    body = read_body(call, UnloadLoraBody)
    return Reply(200, call.engine.models.unload(body.lora_name).encode(), "")


async def pause(call: Call) -> Answer:
    """Stop generating; new requests hang."""
    mode = literal(call, "mode", _MODES)
    boolean(call, "clear_cache", default=True)
    await call.engine.pause(mode)
    return json_reply({"status": "paused"})


async def resume(call: Call) -> Answer:
    """Go on after a pause."""
    call.engine.resume()
    return json_reply({"status": "resumed"})


async def is_paused(call: Call) -> Answer:
    """Whether it is paused, which a sleep is until /resume."""
    return json_reply({"is_paused": call.engine.paused})


async def sleep(call: Call) -> Answer:
    """Go to sleep; new requests hang."""
    level = integer(call, "level", default=1, low=0, high=2)
    await call.engine.sleep(literal(call, "mode", _MODES), level)
    return json_reply({"status": "sleeping", "level": level})


async def wake_up(call: Call) -> Answer:
    """Wake up; with only some tags it stays asleep."""
    tags = call.query.getall("tags", [])
    is_awake = call.engine.wake_up(tags)
    return json_reply({"status": "awake" if is_awake else "sleeping", "tags": tags or None})


async def release_kv_cache_memory(call: Call) -> Answer:
    """Give the memory of the KV cache back, while it is paused."""
    if not call.engine.paused:
        raise EngineError(500, "InternalServerError", _UNPAUSED)
    call.engine.release_cache()
    return json_reply({"status": "kv_cache_released"})


async def is_sleeping(call: Call) -> Answer:
    """Whether it is asleep or paused: vLLM has one state for both."""
    return json_reply({"is_sleeping": call.engine.halted})


async def reset_prefix_cache(call: Call) -> Answer:
    """Forget all cached blocks, unless some are in use."""
    also_running = boolean(call, "reset_running_requests", default=False)
    boolean(call, "reset_external", default=False)
    return json_reply({"success": call.engine.reset_prefix_cache(also_running=also_running)})


async def reset_other_cache(call: Call) -> Answer:
    """Forget media or outputs of encoders, of which there are none."""
    return _EMPTY


async def abort_requests(call: Call) -> Answer:
    """End all requests, or those that are named; unknown ids count, as in vLLM."""
    try:
        body = json.loads(call.body)
    except ValueError:
        raise EngineError(400, "Bad Request", "Invalid JSON format") from None
    if not isinstance(body, dict):
        raise EngineError(400, "Bad Request", "Request body must be a JSON object")
    ids = body.get("request_ids") or ()
    aborted = call.engine.abort_all(ids)
    return json_reply({"status": "aborted", "aborted": len(ids) or aborted})


async def start_profile(call: Call) -> Answer:
    """Start the profiler, unless it runs."""
    if call.engine.profiling:
        message = "A profiling session is already active. Call /stop_profile before starting another session."
        raise EngineError(409, "Conflict", message)
    call.engine.profiling = True
    return _EMPTY


async def stop_profile(call: Call) -> Answer:
    """Stop the profiler."""
    call.engine.profiling = False
    return _EMPTY
