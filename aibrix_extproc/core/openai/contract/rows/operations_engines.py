"""vLLM's operational interface, for administrators and for operators whose keys list these operations.

What each takes and does stands in core/operations/table.py, under the same ids.
"""

from typing import Final

from aibrix_extproc.core.openai.contract.operations import Action, Operation, Role

_ERRORS: Final = ("unknown_endpoint", "no_engines", "no_fleet", "engines_disagree", "partial_failure")


def _row(name: str, method: str, path: str, *errors: str) -> Operation:
    return Operation(name, method, path, action=Action.METADATA, role=Role.OPERATOR, errors=(*_ERRORS, *errors))


ROWS: Final = (
    _row("load_lora_adapter", "POST", "/v1/load_lora_adapter", "adapter_conflict"),
    _row("unload_lora_adapter", "POST", "/v1/unload_lora_adapter"),
    _row("sleep", "POST", "/sleep"),
    _row("wake_up", "POST", "/wake_up"),
    _row("is_sleeping", "GET", "/is_sleeping"),
    _row("pause", "POST", "/pause"),
    _row("resume", "POST", "/resume"),
    _row("is_paused", "GET", "/is_paused"),
    _row("reset_prefix_cache", "POST", "/reset_prefix_cache"),
    _row("reset_mm_cache", "POST", "/reset_mm_cache"),
    _row("reset_encoder_cache", "POST", "/reset_encoder_cache"),
    _row("release_kv_cache_memory", "POST", "/release_kv_cache_memory"),
    _row("abort_requests", "POST", "/abort_requests"),
    _row("start_profile", "POST", "/start_profile"),
    _row("stop_profile", "POST", "/stop_profile"),
    _row("server_info", "GET", "/server_info"),
    _row("tokenizer_info", "GET", "/tokenizer_info"),
    _row("version", "GET", "/version"),
    _row("load", "GET", "/load"),
    _row("start_weight_update", "POST", "/start_weight_update"),
    _row("update_weights", "POST", "/update_weights"),
    _row("finish_weight_update", "POST", "/finish_weight_update"),
    _row("update_weight_version", "POST", "/update_weight_version"),
    _row("weight_info", "GET", "/weight_info"),
    _row("weight_checker", "POST", "/weight_checker"),
    _row("get_world_size", "GET", "/get_world_size"),
)
