"""What the reference says of interfaces, of the OpenAPI document, and of the version."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.reference.operation_docs import Field, OperationDoc

_TAG: Final = (
    "the answer has an `etag`; with it in `if-none-match` the answer is a 304 without a body until something changes"
)
_OPENAI: Final = ("OpenAI has no such route",)
_VLLM: Final = ("vLLM has no such route",)
_INTERFACE: Final = (
    Field("id", "string", "id of the operation, as in this reference", True),
    Field("object", "string", "what this is", True, values=("interface",)),
    Field("summary", "string", "what it is for", True),
    Field("method", "string", "its method", True),
    Field("path", "string", "its path; parameters stand in braces", True),
    Field("api_version", "string|null", "the version in its path, null for a path without one", True),
    Field("input_media", "string|null", "the type of the request's body, null for one without a body", True),
    Field("streaming", "boolean", "whether the answer can be a stream of events", True),
    Field(
        "models", "array",
        "models that it can be used with: `id`, `tasks`, `max_model_len` in tokens, and `limits` of that model; "
        "absent for an operation without a model",
    ),
    Field("engines", "array", "`engine` and `version` of the engines of these models; null for one that does not say"),
    Field(
        "limits", "object",
        "limits of this key by name, as in docs/limits.md, and `max_body_bytes`; what is not there is not limited",
        True,
    ),
    Field("soft_limits", "object", "limits that warn and refuse nothing"),
    Field("deprecations", "array", "fields of the request that have a successor: `field` and `instead`", True),
)  # fmt: skip

_SCHEMAS: Final = (
    Field("input_schema", "object", "JSON Schema of the request's body"),
    Field("query_schema", "object", "JSON Schema of the query's parameters"),
    Field("output_schema", "object", "JSON Schema of the whole answer"),
    Field("event_schema", "object", "JSON Schema of one event of the stream"),
)

INTERFACE_DOCS: Final[Mapping[str, OperationDoc]] = MappingProxyType({
    "list_interfaces": OperationDoc(
        summary="List the operations that this key may use",
        sdk='client.get("/interfaces", cast_to=object)',
        answer=(
            Field("object", "string", "what this is", True, values=("list",)),
            Field("data", "array", "interface objects without their schemas", True),
        ),
        openai=_OPENAI,
        vllm=_VLLM,
        limits=(_TAG,),
    ),
    "retrieve_interface": OperationDoc(
        summary="Tell about one operation, with the JSON Schemas of its input and output",
        sdk='client.get("/interfaces/chat_completion", cast_to=object)',
        answer=(*_INTERFACE, *_SCHEMAS),
        openai=_OPENAI,
        vllm=(*_VLLM, "a field's `x-vllm` lists the versions of vLLM that know it"),
        limits=(_TAG, "each schema stands alone, with its definitions in `$defs`; the largest is half a megabyte"),
    ),
    "retrieve_openapi": OperationDoc(
        summary="Get the OpenAPI document of the operations that this key may use",
        sdk='client.get("/openapi.json", cast_to=object)',
        answer=(
            Field("openapi", "string", "version of the specification", True),
            Field("info", "object", "title and version", True),
            Field("servers", "array", "the base URL", True),
            Field("security", "array", "ways to send the key", True),
            Field("tags", "array", "groups of operations", True),
            Field("paths", "object", "the operations by path and method", True),
            Field("components", "object", "the schemas, answers and headers that they refer to", True),
        ),
        openai=_OPENAI,
        vllm=("vLLM has it at `/openapi.json`, of one engine and for everybody",),
        limits=(_TAG, "for a key that may use everything it is about a megabyte"),
    ),
    "gateway_version": OperationDoc(
        summary="Tell the versions of the gateway and of its engines",
        sdk='client.get("HOST/admin/v1/version", cast_to=object)',
        answer=(
            Field("object", "string", "what this is", True, values=("gateway.version",)),
            Field("version", "string", "of the gateway that answered", True),
            Field("python", "string", "of its Python", True),
            Field("engines", "array", "`engine`, `version` and the number of `endpoints` that have it", True),
        ),
        openai=_OPENAI,
        vllm=("vLLM's own `/version` is an [engine operation](#version)",),
        limits=("for administrators",),
    ),
})  # fmt: skip
