"""Everything that can be chosen about one simulated engine."""

import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

VERSIONS: Final = ("0.32.0", "0.33.0")


class Task(StrEnum):
    """What the engine's model does; it decides which routes exist."""

    GENERATE = "generate"
    EMBED = "embed"
    CLASSIFY = "classify"
    SCORE = "score"
    RERANK = "rerank"
    TRANSCRIPTION = "transcription"


@dataclass(frozen=True, slots=True)
class LoraModule:
    """An adapter that is there from the start."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class SimulatorOptions:
    """The options of one engine; the defaults make an instantaneous one."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 lets the kernel choose."""
    models: tuple[str, ...] = ("sim-model",)
    """Served names; the first one is echoed in responses and metrics, the others are aliases."""
    root: str = ""
    """What /v1/models leaks as `root`; empty means the first served name."""
    task: Task = Task.GENERATE
    max_model_len: int = 8192
    api_keys: tuple[str, ...] = ()
    loras: tuple[LoraModule, ...] = ()
    max_loras: int = 4
    version: str = VERSIONS[0]
    """Of vLLM. 0.33 refuses new requests while it is paused; 0.32 lets them hang."""
    seed: int = 0
    max_num_seqs: int = 256
    priority_scheduling: bool = False
    """Whether waiting requests with a lower `X-Vllm-Priority` go first."""
    max_num_queued_reqs: int | None = None
    """More waiting requests than this are refused with 503; None never refuses."""
    prefill_us_per_token: float = 0.0
    """Microseconds for each prompt token that is not in the prefix cache."""
    prefill_base_ms: float = 0.0
    serial_prefill: bool = False
    """Whether prompts are computed one after the other, as by an engine whose steps a single prompt fills."""
    itl_ms: float = 0.0
    """Milliseconds between two tokens of one sequence."""
    tokens_per_write: int = 0
    """Tokens in one socket write; 0 means all at once without inter-token time, else one."""
    output_tokens: int = 16
    """Tokens an answer has unless the request asks for another number."""
    block_size: int = 16
    num_blocks: int = 16384
    prefix_caching: bool = True
    kv_connector: bool = False
    """Whether the KV cache of a prompt is given to other engines and taken from them, as with vLLM's NixlConnector."""
    kv_lease_seconds: float = 30.0
    """How long the blocks of a prompt wait to be read."""
    kv_transfer_us_per_token: float = 0.0
    """Microseconds for each token that is taken over."""
    embedding_dimensions: int = 64
    responses_store: bool = False
    tool_call_parser: bool = True
    """Without it, tools can be given but no choice other than `none` is accepted."""
    auto_tool_choice: bool = False
    multimodal: bool = False
    prompt_tokens_details: bool = False
    request_id_headers: bool = False
    server_load_tracking: bool = False
    lora_updating: bool = True
    dev_mode: bool = True
    """Gives the routes of VLLM_SERVER_DEV_MODE: sleep, pause, prefix cache reset."""
    weight_transfer: bool = False
    """Whether weights can be updated, as with --weight-transfer-config."""
    profiler: bool = False
    """Gives the routes of --profiler-config."""
    tokenizer_info: bool = False
    """Gives the route of --enable-tokenizer-info-endpoint."""
    admin: bool = True
    """Gives the /sim routes and obeys the x-sim headers."""
    keep_alive_seconds: float = 5.0
    max_body_bytes: int = 64 * 1024 * 1024
    recorded_requests: int = 256
    recorded_body_bytes: int = 64 * 1024
    crash_exits: bool = False
    """Whether the crash fault ends the process; else it only drops the listener and all connections."""

    @property
    def fingerprint(self) -> str:
        """What vLLM sends as system_fingerprint; it has the version."""
        return f"vllm-{self.version}-{zlib.crc32(self.base_model.encode()):08x}"

    @property
    def base_model(self) -> str:
        """The name that responses and metrics carry."""
        return self.models[0]
