"""vLLM's operational interface as a table: what each operation takes, what it does, and how its answers are judged.

`id` is the operation's id in the table of the public interface, too. Routes that run code in an engine, or that join
it with others (`collective_rpc`, weight transfer engines, elastic expert parallelism), have no row and cannot be asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.operations.parameters import MAX_PATH, Form, Kind, Parameter

DEV_MODE: Final = "VLLM_SERVER_DEV_MODE=1"
LORA: Final = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, --enable-lora"
SLEEP: Final = f"{DEV_MODE}, --enable-sleep-mode (memory is released with it only)"
TRANSFER: Final = f"{DEV_MODE}, --weight-transfer-config"
KIB: Final = 1024


class Fold(StrEnum):
    """The way in which a field of several engines' answers becomes one, where they may differ."""

    SUM = "sum"
    ALL = "true if true everywhere"


class Adapters(StrEnum):
    """The effect of an operation on a LoRA adapter."""

    NONE = "-"
    LOAD = "load"
    UNLOAD = "unload"


class News(StrEnum):
    """The change that gateways must notice after a success."""

    NONE = "-"
    MODELS = "models"  # another list of models
    REST = "rest"  # the engine sleeps, is paused, or works again


@dataclass(frozen=True, slots=True)
class EngineOperation:
    """One route of an engine."""

    id: str
    method: str
    path: str
    summary: str  # for the reference
    parameters: tuple[Parameter, ...] = ()
    needs: str = ""  # flags and variables of the engine
    running: str = ""  # what happens to requests that run
    fresh: str = ""  # what happens to new requests
    disturbing: bool = False  # whether requests can notice it, so that a run drains the engine before
    verified_by: str = ""  # the operation that shows whether it took effect; empty: its answer does
    serial: bool = False  # whether an engine takes one at a time
    adapters: Adapters = Adapters.NONE
    news: News = News.NONE
    again_while: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))  # such answers are no result
    folds: Mapping[str, Fold] = field(default_factory=lambda: MappingProxyType({}))
    seconds: float = 60.0  # for one engine, unless the caller has less time
    max_bytes: int = 64 * KIB  # of an answer
    in_rust: bool = True  # whether vLLM's Rust frontend has it

    @property
    def changes(self) -> bool:
        """Whether it changes an engine; others only read."""
        return self.method != "GET"


_LEVEL: Final = Parameter(
    name="level", kind=Kind.INTEGER, in_query=True, default="1", highest=2,
    meaning="0: only pause; 1: weights go to the CPU's memory; 2: weights are dropped",
)  # fmt: skip
_MODE: Final = Parameter(
    name="mode", kind=Kind.TEXT, in_query=True, default='"abort"', values=("abort", "wait", "keep"),
    meaning="what happens to requests that run: ended, waited for, or frozen until the engine goes on",
)  # fmt: skip
_LORA_NAME: Final = Parameter(
    name="lora_name",
    kind=Kind.TEXT,
    required=True,
    form=Form.NAME,
    meaning="the adapter's name, as `model` of requests",
)
_VERSION: Final = {"kind": Kind.TEXT, "form": Form.NAME, "longest": 128}
_TRUNCATED: Final = 'ended with `finish_reason: "abort"`, run to the end, or are frozen, by `mode`'
_HANGS: Final = "hang until the engine goes on; gateways send none there once they know"


ROWS: Final[tuple[EngineOperation, ...]] = (
    EngineOperation(
        "load_lora_adapter", "POST", "/v1/load_lora_adapter", "Load a LoRA adapter",
        (
            _LORA_NAME,
            Parameter(
                name="lora_path", kind=Kind.TEXT, required=True, longest=MAX_PATH, form=Form.PATH,
                meaning="its folder on the engine's machine, or ORGANISATION/NAME of Hugging Face",
            ),
            Parameter(
                name="load_inplace", kind=Kind.BOOLEAN, default="false",
                meaning="replace an adapter of that name; reset the prefix cache afterwards on vLLM up to 0.32",
            ),
            Parameter(name="is_3d_lora_weight", kind=Kind.BOOLEAN, default="false", meaning="how MoE weights lie"),
        ),
        needs=LORA, running="go on", fresh="go on", verified_by="list_models", serial=True,
        adapters=Adapters.LOAD, news=News.MODELS, seconds=110.0, in_rust=False,
    ),
    EngineOperation(
        "unload_lora_adapter", "POST", "/v1/unload_lora_adapter", "Unload a LoRA adapter",
        (
            _LORA_NAME,
            Parameter(name="lora_int_id", kind=Kind.INTEGER, lowest=1, meaning="vLLM's number of it; not needed"),
        ),
        needs=LORA, running="run to their end, with the adapter", fresh="404 for the adapter's name",
        verified_by="list_models", serial=True, adapters=Adapters.UNLOAD, news=News.MODELS, in_rust=False,
    ),
    EngineOperation(
        "sleep", "POST", "/sleep", "Put engines to sleep", (_LEVEL, _MODE),
        needs=SLEEP, running=_TRUNCATED, fresh=_HANGS, disturbing=True, verified_by="is_sleeping", serial=True,
        news=News.REST, seconds=110.0,
    ),
    EngineOperation(
        "wake_up", "POST", "/wake_up", "Wake engines",
        (
            Parameter(
                name="tags", kind=Kind.TEXTS, in_query=True, values=("weights", "kv_cache", "scheduling"), longest=3,
                meaning="what to bring back; without any, all of it. The engine sleeps until it has all",
            ),
        ),
        needs=SLEEP, running="frozen ones go on", fresh="go on", verified_by="is_sleeping", serial=True,
        news=News.REST, seconds=110.0,
    ),
    EngineOperation(
        "is_sleeping", "GET", "/is_sleeping", "Ask whether engines sleep: also true while they are paused",
        needs=DEV_MODE, seconds=10.0,
    ),
    EngineOperation(
        "pause", "POST", "/pause", "Pause engines",
        (
            _MODE,
            Parameter(
                name="clear_cache", kind=Kind.BOOLEAN, in_query=True, default="true",
                meaning="forget cached prefixes; deprecated in vLLM",
            ),
        ),
        needs=DEV_MODE, running=_TRUNCATED,
        fresh=f"{_HANGS}; vLLM 0.33 refuses them with 503 for `abort` and `wait`",
        disturbing=True, verified_by="is_paused", serial=True, news=News.REST, seconds=110.0,
    ),
    EngineOperation(
        "resume", "POST", "/resume", "Let paused engines go on; a sleep only ends with a wake-up",
        needs=DEV_MODE, running="frozen ones go on", fresh="go on", verified_by="is_paused", serial=True,
        news=News.REST,
    ),
    EngineOperation(
        "is_paused", "GET", "/is_paused", "Ask whether engines are paused: also true while they sleep",
        needs=DEV_MODE, seconds=10.0,
    ),
    EngineOperation(
        "reset_prefix_cache", "POST", "/reset_prefix_cache", "Forget cached prefixes",
        (
            Parameter(
                name="reset_running_requests", kind=Kind.BOOLEAN, in_query=True, default="false",
                meaning="also while requests hold blocks: these compute their prompts again",
            ),
            Parameter(
                name="reset_external", kind=Kind.BOOLEAN, in_query=True, default="false",
                meaning="also the cache of a KV connector",
            ),
        ),
        needs=DEV_MODE, running="go on", fresh="compute their whole prompt", serial=True,
        again_while=MappingProxyType({"success": False}), folds=MappingProxyType({"success": Fold.ALL}), seconds=20.0,
    ),
    EngineOperation(
        "reset_mm_cache", "POST", "/reset_mm_cache", "Forget cached images, audio and video",
        needs=DEV_MODE, running="go on", fresh="process their media again", serial=True, seconds=20.0,
    ),
    EngineOperation(
        "reset_encoder_cache", "POST", "/reset_encoder_cache", "Forget cached outputs of encoders",
        needs=DEV_MODE, running="go on", fresh="encode their media again", serial=True, seconds=20.0,
    ),
    EngineOperation(
        "release_kv_cache_memory", "POST", "/release_kv_cache_memory", "Release the KV cache of paused engines",
        needs=f"{SLEEP}; a pause before it", disturbing=True, serial=True,
        running="none run while it is paused", fresh=_HANGS,
    ),
    EngineOperation(
        "abort_requests", "POST", "/abort_requests", "End running requests",
        (
            Parameter(
                name="request_ids", kind=Kind.TEXTS, longest=4096,
                meaning="ids of their answers (`chatcmpl-...`); none: all requests",
            ),
        ),
        needs=DEV_MODE, running='those named end with `finish_reason: "abort"`', fresh="go on", disturbing=True,
        folds=MappingProxyType({"aborted": Fold.SUM}),
    ),
    EngineOperation(
        "start_profile", "POST", "/start_profile", "Start the profiler",
        needs="--profiler-config", running="go on, slower", fresh="go on, slower", serial=True,
    ),
    EngineOperation(
        "stop_profile", "POST", "/stop_profile", "Stop the profiler",
        needs="--profiler-config", running="wait while the profile is written",
        fresh="go on", serial=True, seconds=110.0,
    ),
    EngineOperation(
        "server_info", "GET", "/server_info", "Ask for the engine's configuration",
        (
            Parameter(
                name="config_format", kind=Kind.TEXT, in_query=True, default='"text"', values=("text", "json"),
                meaning="as one text, or as JSON",
            ),
        ),
        needs=DEV_MODE, max_bytes=4096 * KIB, seconds=30.0,
    ),
    EngineOperation(
        "tokenizer_info", "GET", "/tokenizer_info", "Ask for the tokenizer's configuration and the chat template",
        needs="--enable-tokenizer-info-endpoint", max_bytes=4096 * KIB, seconds=30.0,
    ),
    EngineOperation("version", "GET", "/version", "Ask for vLLM's version", seconds=10.0),
    EngineOperation(
        "load", "GET", "/load", "Ask for the number of requests in engines",
        needs="--enable-server-load-tracking, else 0", folds=MappingProxyType({"server_load": Fold.SUM}), seconds=10.0,
    ),
    EngineOperation(
        "start_weight_update", "POST", "/start_weight_update", "Begin an update of weights",
        needs=TRANSFER, running="go on, until `update_weights`", fresh="go on", disturbing=True, serial=True,
    ),
    EngineOperation(
        "update_weights", "POST", "/update_weights", "Take new weights",
        (
            Parameter(
                name="update_info", kind=Kind.OBJECT, required=True,
                meaning="what the configured way of transfer wants",
            ),
        ),
        needs=TRANSFER, running="go on with mixed weights unless the engine is paused", fresh="the same",
        disturbing=True, serial=True, seconds=110.0,
    ),
    EngineOperation(
        "finish_weight_update", "POST", "/finish_weight_update", "End an update of weights",
        (Parameter(name="weight_version", meaning="what to call the new weights", **_VERSION),),  # type: ignore[arg-type]
        needs=TRANSFER, running="go on", fresh="use the new weights", disturbing=True, verified_by="weight_info",
        serial=True,
    ),
    EngineOperation(
        "update_weight_version", "POST", "/update_weight_version", "Name the weights",
        (Parameter(name="new_version", required=True, meaning="the name", **_VERSION),),  # type: ignore[arg-type]
        needs=DEV_MODE, running="go on", fresh="go on", verified_by="weight_info", serial=True,
    ),
    EngineOperation(
        "weight_info", "GET", "/weight_info", "Ask which weights engines have", needs=DEV_MODE, seconds=10.0
    ),
    EngineOperation(
        "weight_checker", "POST", "/weight_checker", "Compute or compare checksums of weights",
        (
            Parameter(
                name="action", kind=Kind.TEXT, required=True, values=("checksum", "reset", "compare"),
                meaning="what to do",
            ),
            Parameter(
                name="baseline", kind=Kind.OBJECT, meaning="checksums to compare with"
            ),
        ),
        needs=DEV_MODE, running="wait meanwhile", fresh="wait meanwhile", disturbing=True, serial=True, seconds=110.0,
        max_bytes=4096 * KIB,
    ),
    EngineOperation(
        "get_world_size", "GET", "/get_world_size", "Ask for the number of workers of engines",
        (
            Parameter(
                name="include_dp", kind=Kind.BOOLEAN, in_query=True, default="true",
                meaning="also those of data parallelism",
            ),
        ),
        needs=DEV_MODE, seconds=10.0,
    ),
)  # fmt: skip

ENGINE_OPERATIONS: Final[Mapping[str, EngineOperation]] = MappingProxyType({row.id: row for row in ROWS})
