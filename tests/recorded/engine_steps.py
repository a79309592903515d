"""What was asked of real engines, in this order, to record how each operation answers; the simulator is asked the same.

Requests that hang (a new request to an engine that sleeps) are no steps: `tests/simulator` has them.
"""

from dataclasses import dataclass
from typing import Any, Final

LORA: Final = "{lora}"  # a folder with an adapter, put in by whoever asks


@dataclass(frozen=True, slots=True)
class Step:
    """One request. `body` None: none is sent. `shape`: only status, content type and names of members are compared.

    `of_cpu`: what a build for CPUs answers, because it cannot do it; the simulator answers as one for GPUs.
    """

    name: str
    method: str
    path: str
    body: Any = None
    shape: bool = False
    of_cpu: bool = False


def _load(name: str, path: str = LORA, **more: Any) -> dict[str, Any]:
    return {"lora_name": name, "lora_path": path} | more


L: Final = "/v1/load_lora_adapter"
U: Final = "/v1/unload_lora_adapter"
STEPS: Final = (
    Step("version", "GET", "/version"),
    Step("load", "GET", "/load"),
    Step("tokenizer info", "GET", "/tokenizer_info", shape=True),
    Step("server info", "GET", "/server_info", shape=True),
    Step("server info as json", "GET", "/server_info?config_format=json", shape=True),
    Step("server info in a wrong format", "GET", "/server_info?config_format=yaml"),
    Step("lora", "POST", L, _load("l1")),
    Step("lora again", "POST", L, _load("l1")),
    Step("lora in place", "POST", L, _load("l1", load_inplace=True)),
    Step("lora of the base's name", "POST", L, _load("meta-llama/tiny")),
    Step("lora of an alias's name", "POST", L, _load("base2")),
    Step("lora from nowhere", "POST", L, _load("l2", "/nope")),
    Step("lora without a name", "POST", L, {"lora_path": LORA}),
    Step("lora with an empty name", "POST", L, _load("")),
    Step("lora with an empty path", "POST", L, _load("l2", "")),
    Step("lora with a number as name", "POST", L, _load(7)),  # type: ignore[arg-type]
    Step("second lora", "POST", L, _load("l2")),
    Step("third lora, over max_loras", "POST", L, _load("l3")),
    Step("unload", "POST", U, {"lora_name": "l3"}),
    Step("unload again", "POST", U, {"lora_name": "l3"}),
    Step("unload by number too", "POST", U, {"lora_name": "l2", "lora_int_id": 2}),
    Step("unload without a name", "POST", U, {}),
    Step("unload with an empty name", "POST", U, {"lora_name": ""}),
    Step("unload the base", "POST", U, {"lora_name": "meta-llama/tiny"}),
    Step("unload the first", "POST", U, {"lora_name": "l1"}),
    Step("load by GET", "GET", L),
    Step("awake", "GET", "/is_sleeping"),
    Step("not paused", "GET", "/is_paused"),
    Step("pause", "POST", "/pause"),
    Step("pause shows as paused", "GET", "/is_paused"),
    Step("pause shows as sleep", "GET", "/is_sleeping"),
    Step("pause again", "POST", "/pause?mode=wait"),
    Step("resume", "POST", "/resume"),
    Step("resume again", "POST", "/resume"),
    Step("resumed", "GET", "/is_paused"),
    Step("pause keep", "POST", "/pause?mode=keep&clear_cache=false"),
    Step("wake_up ends a pause", "POST", "/wake_up"),
    Step("after wake_up", "GET", "/is_paused"),
    Step("pause in a wrong mode", "POST", "/pause?mode=kill"),
    Step("pause with a wrong flag", "POST", "/pause?clear_cache=maybe"),
    Step("sleep", "POST", "/sleep"),
    Step("asleep", "GET", "/is_sleeping"),
    Step("sleep shows as pause", "GET", "/is_paused"),
    Step("resume of a sleep", "POST", "/resume"),
    Step("resume ends the pause of a sleep", "GET", "/is_paused"),
    Step("resume does not end a sleep", "GET", "/is_sleeping"),
    Step("wake weights", "POST", "/wake_up?tags=weights"),
    Step("after weights", "GET", "/is_sleeping"),
    Step("wake kv_cache", "POST", "/wake_up?tags=kv_cache"),
    Step("after kv_cache", "GET", "/is_sleeping"),
    Step("sleep level 2", "POST", "/sleep?level=2&mode=wait"),
    Step("wake", "POST", "/wake_up"),
    Step("woken", "GET", "/is_sleeping"),
    Step("wake again", "POST", "/wake_up"),
    Step("wake with an unknown tag", "POST", "/wake_up?tags=nope"),
    Step("sleep level 0", "POST", "/sleep?level=0"),
    Step("level 0 shows as sleep", "GET", "/is_sleeping"),
    Step("wake scheduling", "POST", "/wake_up?tags=scheduling"),
    Step("after scheduling", "GET", "/is_sleeping"),
    Step("sleep level 3", "POST", "/sleep?level=3"),
    Step("sleep level -1", "POST", "/sleep?level=-1"),
    Step("sleep level one", "POST", "/sleep?level=one"),
    Step("sleep in a wrong mode", "POST", "/sleep?mode=kill"),
    Step("sleep by GET", "GET", "/sleep"),
    Step("prefix cache", "POST", "/reset_prefix_cache"),
    Step("prefix cache with flags", "POST", "/reset_prefix_cache?reset_running_requests=true&reset_external=true"),
    Step("prefix cache with a wrong flag", "POST", "/reset_prefix_cache?reset_external=maybe"),
    Step("multi-modal cache", "POST", "/reset_mm_cache"),
    Step("encoder cache", "POST", "/reset_encoder_cache"),
    Step("release unpaused", "POST", "/release_kv_cache_memory"),
    Step("pause for a release", "POST", "/pause"),
    Step("release", "POST", "/release_kv_cache_memory", of_cpu=True),
    Step("released shows as sleep", "GET", "/is_sleeping"),
    Step("wake after a release", "POST", "/wake_up"),
    Step("awake after a release", "GET", "/is_sleeping"),
    Step("abort all", "POST", "/abort_requests", {}),
    Step("abort unknown ids", "POST", "/abort_requests", {"request_ids": ["a", "b"]}),
    Step("abort with a list", "POST", "/abort_requests", ["a"]),
    Step("abort without a body", "POST", "/abort_requests"),
    Step("weight info", "GET", "/weight_info"),
    Step("weight version", "POST", "/update_weight_version", {"new_version": "v2"}),
    Step("weight info after it", "GET", "/weight_info"),
    Step("weight version without one", "POST", "/update_weight_version", {}),
    Step("weight version as a number", "POST", "/update_weight_version", {"new_version": 2}),
    Step("start an update", "POST", "/start_weight_update"),
    Step("update", "POST", "/update_weights", {"update_info": {}}),
    Step("update without info", "POST", "/update_weights", {}),
    Step("finish", "POST", "/finish_weight_update", {"weight_version": "v3"}),
    Step("weight info after a failed update", "GET", "/weight_info"),
    Step("checksum", "POST", "/weight_checker", {"action": "checksum"}, shape=True),
    Step("compare without a baseline", "POST", "/weight_checker", {"action": "compare"}),
    Step("compare with another", "POST", "/weight_checker", {"action": "compare", "baseline": {"x": "1"}}, shape=True),
    Step("check in a wrong way", "POST", "/weight_checker", {"action": "run"}),
    Step("world size", "GET", "/get_world_size"),
    Step("world size without data parallelism", "GET", "/get_world_size?include_dp=false"),
    Step("world size with a wrong flag", "GET", "/get_world_size?include_dp=maybe"),
    Step("start a profile", "POST", "/start_profile"),
    Step("start a profile again", "POST", "/start_profile"),
    Step("stop a profile", "POST", "/stop_profile"),
    Step("stop a profile again", "POST", "/stop_profile"),
)
