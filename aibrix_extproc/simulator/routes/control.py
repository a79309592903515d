"""Health, models, metrics, LoRA, pause and sleep."""

import time
from typing import Final

from aibrix_extproc.simulator.errors import Reply
from aibrix_extproc.simulator.options import VLLM_VERSION
from aibrix_extproc.simulator.reading import read_body, validation_error
from aibrix_extproc.simulator.requests import LoadLoraBody, UnloadLoraBody
from aibrix_extproc.simulator.wire import Answer, Call, json_reply

_EMPTY: Final = Reply(200, b"", "")
_MODES: Final = ("abort", "wait", "keep")


async def health(call: Call) -> Answer:
    """Always well, asleep or not."""
    return _EMPTY


async def version(call: Call) -> Answer:
    """The version that is imitated."""
    return json_reply({"version": VLLM_VERSION})


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
    config = {
        "model": options.root or options.base_model,
        "served_model_name": list(options.models),
        "max_model_len": options.max_model_len,
        "max_num_seqs": options.max_num_seqs,
        "seed": options.seed,
    }
    return json_reply({"vllm_config": config if call.query.get("config_format") == "json" else repr(config)})


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
    await call.engine.halt(_mode(call))
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
    level = call.query.get("level", "1")
    if level not in ("0", "1", "2"):
        message = "Input should be a valid integer, unable to parse string as an integer"
        raise validation_error([{"type": "int_parsing", "loc": ("query", "level"), "msg": message, "input": level}])
    await call.engine.halt(_mode(call), int(level))
    return json_reply({"status": "sleeping", "level": int(level)})


async def wake_up(call: Call) -> Answer:
    """Wake up; with only some tags it stays asleep."""
    tags = call.query.get("tags")
    if tags in (None, "kv_cache"):
        call.engine.wake_up()
    asleep = call.engine.sleep_level is not None
    return json_reply({"status": "sleeping" if asleep else "awake", "tags": [tags] if tags else None})


async def is_sleeping(call: Call) -> Answer:
    """Whether it is asleep or paused: vLLM has one state for both."""
    return json_reply({"is_sleeping": call.engine.halted})


async def reset_prefix_cache(call: Call) -> Answer:
    """Forget all cached blocks, unless some are in use."""
    return json_reply({"success": call.engine.reset_prefix_cache()})


def _mode(call: Call) -> str:
    mode = call.query.get("mode", "abort")
    if mode not in _MODES:
        expected = "'abort', 'wait' or 'keep'"
        error = {
            "type": "literal_error",
            "loc": ("query", "mode"),
            "msg": f"Input should be {expected}",
            "input": mode,
            "ctx": {"expected": expected},
        }
        raise validation_error([error])
    return mode
