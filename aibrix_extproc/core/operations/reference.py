"""The reference of vLLM's operational interface, made of the table of operations."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.reference.operation_docs import JSON, TEXT, Field, OperationDoc
from aibrix_extproc.core.operations.parameters import Kind, Parameter
from aibrix_extproc.core.operations.requests import MODEL
from aibrix_extproc.core.operations.table import ROWS, Adapters, EngineOperation
from aibrix_extproc.core.operations.targets import TARGET_ENDPOINTS

_MODEL: Final = Field(MODEL, "string", "engines of this model, or of this adapter; else all engines")
_KINDS: Final = MappingProxyType({Kind.TEXTS: "array"})
_STATUS: Final = Field("status", "string", "what the engine has become", True)
_MESSAGE: Final = Field("message", "string", "what was done", True)
_ANSWERS: Final[Mapping[str, tuple[Field, ...]]] = MappingProxyType({
    "sleep": (_STATUS, Field("level", "integer", "as asked", True)),
    "wake_up": (_STATUS, Field("tags", "array|null", "as asked; `sleeping` in `status`: more are needed", True)),
    "is_sleeping": (Field("is_sleeping", "boolean", "whether it sleeps or is paused", True),),
    "pause": (_STATUS,),
    "resume": (_STATUS,),
    "is_paused": (Field("is_paused", "boolean", "whether it is paused or sleeps", True),),
    "reset_prefix_cache": (
        Field("success", "boolean", "false: requests held blocks all the time; of several, whether all did", True),
    ),
    "release_kv_cache_memory": (_STATUS,),
    "abort_requests": (_STATUS, Field("aborted", "integer", "ids, also unknown ones; the sum of several", True)),
    "server_info": (Field("vllm_config", "string|object", "the configuration", True),),
    "tokenizer_info": (Field("tokenizer_class", "string", "the tokenizer", True),),
    "version": (Field("version", "string", "of vLLM", True),),
    "load": (Field("server_load", "integer", "requests; the sum of several engines", True),),
    "start_weight_update": (_MESSAGE,),
    "update_weights": (_MESSAGE,),
    "finish_weight_update": (_MESSAGE,),
    "update_weight_version": (
        Field("success", "boolean", "done", True), Field("new_version", "string", "as asked", True),
    ),
    "weight_info": (Field("weight_version", "string", "the name of the weights", True),),
    "weight_checker": (
        Field("checksums", "object", "by tensor, for `checksum`"),
        Field("match", "boolean", "for `compare`"),
        Field("mismatches", "array", "tensors that differ, for `compare`"),
    ),
    "get_world_size": (Field("world_size", "integer", "number of workers", True),),
})  # fmt: skip
# Parameters of the samples.
_SAMPLES: Final[Mapping[str, str]] = MappingProxyType({
    "load_lora_adapter": 'body={"lora_name": "sql", "lora_path": "/adapters/sql"}',
    "unload_lora_adapter": 'body={"lora_name": "sql"}',
    "sleep": 'options={"params": {"level": 1, "mode": "wait"}}',
    "wake_up": 'options={"params": {"model": "MODEL"}}',
    "pause": 'options={"params": {"mode": "keep"}}',
    "abort_requests": 'body={"request_ids": []}',
    "update_weights": 'body={"update_info": {}}',
    "finish_weight_update": 'body={"weight_version": "v2"}',
    "update_weight_version": 'body={"new_version": "v2"}',
    "weight_checker": 'body={"action": "checksum"}',
})  # fmt: skip


def _doc(row: EngineOperation) -> OperationDoc:
    answer = _ANSWERS.get(row.id, ())
    sample = f", {_SAMPLES[row.id]}" if row.id in _SAMPLES else ""
    body = tuple(_field(one) for one in row.parameters if not one.in_query)
    return OperationDoc(
        summary=row.summary,
        sdk=f'client.{row.method.lower()}("HOST{row.path}", cast_to={"object" if answer else "str"}{sample})',
        answer=answer,
        request=body,
        request_media=JSON if body else "",
        query=(_MODEL, *(_field(one) for one in row.parameters if one.in_query)),
        answer_types=(JSON,) if answer else (TEXT,),
        vllm=tuple(_differences(row)),
        limits=(f"engines have {row.seconds:g} s together, and {row.max_bytes} bytes for each answer",),
    )


def _differences(row: EngineOperation) -> Iterator[str]:
    where = "all engines that it concerns"
    if row.adapters is Adapters.LOAD:
        where = "all engines of the base model; one that has the adapter from the same path is left out"
    elif row.adapters is Adapters.UNLOAD:
        where = "all engines of the base model; one that does not have the adapter is left out"
    yield f"sent to {where}; administrators may name endpoints in the header `{TARGET_ENDPOINTS}` (HOST:PORT,...)"
    yield (
        "the answer of one engine passes as it is; equal answers of several are one; else 502 `partial_failure`, or "
        "409 `engines_disagree` if all succeeded"
    )
    yield "a parameter that is unknown or out of range is a 400, and no engine is asked"
    if row.needs:
        yield f"engines need {row.needs}; others answer 404"
    if row.changes:
        yield f"requests that run {row.running}; new ones {row.fresh}"
    if not row.in_rust:
        yield "vLLM's Rust frontend (0.33) does not have it"


def _field(one: Parameter) -> Field:
    kind = _KINDS.get(one.kind, one.kind.value)
    return Field(one.name, kind, one.meaning, one.required, one.default, one.values)


ENGINE_DOCS: Final[Mapping[str, OperationDoc]] = MappingProxyType({row.id: _doc(row) for row in ROWS})
