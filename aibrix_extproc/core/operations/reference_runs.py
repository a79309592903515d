"""The reference of operation runs and of the list of engines."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.reference.operation_docs import EVENTS, JSON, Field, OperationDoc
from aibrix_extproc.core.operations.recipes import NAMES
from aibrix_extproc.core.operations.records import Order, RunStatus

_RUN: Final = (
    Field("id", "string", "its id", True),
    Field("object", "string", "what this is", True, values=("operation",)),
    Field("status", "string", "how far it is", True, values=tuple(RunStatus)),
    Field("endpoints", "array", "each endpoint with its `phase`, the engine's last `answer` and a `detail`", True),
    Field("counts", "object", "endpoints by phase", True),
    Field("detail", "string", "why it is no success", True),
    Field("created_by", "string", "the caller who asked for it", True),
)
_PAGE: Final = (
    Field("object", "string", "what this is", True, values=("list",)),
    Field("data", "array", "the objects of the page", True),
    Field("has_more", "boolean", "whether more follow", True),
)
_OURS: Final = ("OpenAI has no such operation",)
_VLLM: Final = ("vLLM has no such route",)
_PHASES: Final = (
    "phases of an endpoint: `pending`, `draining`, `running`, `verifying`, then `done`, `failed`, `cancelled` or"
    " `rolled_back`"
)

RUN_DOCS: Final[Mapping[str, OperationDoc]] = MappingProxyType({
    "create_run": OperationDoc(
        summary="Apply an operation to engines, drained first and verified",
        sdk='client.post(\n    str(client.base_url.join("/admin/v1/operations")),\n    cast_to=object,\n'
        '    body={"operation": "reset_prefix_cache", "target": {"model": "m"}},\n)',
        request=(
            Field("operation", "string", "what to do", True, values=NAMES),
            Field("params", "object", "its parameters, as the engine's route takes them"),
            Field("then", "array", "up to 7 further operations, each an object with `operation` and `params`"),
            Field("target", "object", "`model`, `endpoints` (identity, address, name), `labels`: all must hold", True),
            Field("drain", "object", "`seconds` to wait for running requests before the first call; 30 by default"),
            Field("order", "string", "endpoint by endpoint, or at once", default='"rolling"', values=tuple(Order)),
            Field("max_unavailable", "integer", "endpoints at once in rolling order", default="1"),
            Field("keep_available", "integer", "engines of each model that stay available at any time", default="1"),
            Field("call_timeout", "number", "seconds for one call to an engine", default="300"),
            Field("timeout", "number", "seconds after which no further endpoint is begun", default="3600"),
            Field("force", "boolean", "take the last engine, too; for administrators", default="false"),
        ),
        request_media=JSON,
        answer=_RUN,
        openai=(
            *_OURS, "the answer is 202; the run goes on in the service", _PHASES,
            "`Idempotency-Key` makes one run of equal requests",
            "runs that share an endpoint or a model wait for each other, in the order in which they were asked for",
        ),
        vllm=_VLLM,
        limits=("100 runs that have not ended", "ended runs are kept for 90 days, 10,000 at most"),
    ),
    "list_runs": OperationDoc(
        summary="List operations, newest first",
        sdk='client.get(str(client.base_url.join("/admin/v1/operations")), cast_to=object)',
        query=(
            Field("limit", "integer", "objects in a page, 1 to 100", default="20"),
            Field("after", "string", "id of the last object of the page before"),
        ),
        answer=_PAGE, openai=_OURS, vllm=_VLLM,
    ),
    "retrieve_run": OperationDoc(
        summary="Describe an operation, with its history",
        sdk='client.get(str(client.base_url.join("/admin/v1/operations/op_ID")), cast_to=object)',
        answer=(*_RUN, Field("history", "array", "what happened: `at`, `endpoint`, `text`", True)),
        openai=_OURS, vllm=_VLLM,
    ),
    "run_events": OperationDoc(
        summary="Follow an operation",
        sdk='client.get(str(client.base_url.join("/admin/v1/operations/op_ID/events")), cast_to=object)',
        answer_types=(EVENTS,),
        openai=(
            *_OURS,
            "an event `operation` comes at once, with each change and with the end, which ends the stream; its data is"
            " the operation",
        ),
        vllm=_VLLM,
        limits=("256 streams for each process of the service; a further one is a 503",),
    ),
    "cancel_run": OperationDoc(
        summary="End an operation before its next endpoint",
        sdk='client.post(str(client.base_url.join("/admin/v1/operations/op_ID/cancel")), cast_to=object)',
        answer=_RUN,
        openai=(*_OURS, "an endpoint whose engine was called already is brought to its end"),
        vllm=_VLLM,
    ),
    "list_engines": OperationDoc(
        summary="List engines",
        sdk='client.get(str(client.base_url.join("/admin/v1/engines")), cast_to=object)',
        answer=(
            Field("object", "string", "what this is", True, values=("list",)),
            Field("data", "array", "each with its address, models, health, labels and whether it is cordoned", True),
            Field("known", "boolean", "whether all sources have listed their endpoints", True),
        ),
        openai=_OURS, vllm=_VLLM,
    ),
})  # fmt: skip
