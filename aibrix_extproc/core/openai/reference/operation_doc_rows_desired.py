"""What the reference says of desired adapters and policies of models."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.reference.operation_docs import JSON, Field, OperationDoc

_PAGE: Final = (
    Field("object", "string", "what this is", True, values=("list",)),
    Field("data", "array", "the objects of the page", True),
    Field("first_id", "string|null", "id of the first", True),
    Field("last_id", "string|null", "id of the last, to be sent as `after`", True),
    Field("has_more", "boolean", "whether more follow", True),
)
_QUERY: Final = (
    Field("limit", "integer", "objects in a page, 1 to 1000", default="100"),
    Field("after", "string", "id of the last object of the page before"),
)
_DELETED: Final = (
    Field("id", "string", "its name", True),
    Field("object", "string", "what it was", True),
    Field("deleted", "boolean", "always true", True),
)
_ADAPTER_FIELDS: Final = (
    Field("path", "string", "where engines load it from: a path, `ORGANISATION/NAME`, or a URL", True),
    Field("base", "string", "the model that it adapts", True),
    Field("replicas", "integer|string", "on how many engines, or `all`", default='"all"'),
    Field("placement", "object", "labels that an engine must have", default="{}"),
    Field("pinned", "boolean", "never unload it to make room", default="false"),
    Field("lazy", "boolean", "load it with the first request for it", default="false"),
)
_ADAPTER: Final = (
    Field("id", "string", "its name: `model` of requests", True),
    Field("object", "string", "what this is", True, values=("adapter",)),
    *_ADAPTER_FIELDS,
    Field("version", "integer", "of the record; grows with each change of any", True),
    Field("state", "string", "of all engines together", True,
          values=("pending", "loading", "loaded", "idle", "failed", "unloading")),
    Field("loaded", "integer", "engines that have it", True),
    Field("wanted", "integer", "engines that should have it", True),
    Field("endpoints", "array", "`endpoint`, `name`, `state`, and of a failure `detail` and `retry_in_seconds`", True),
    Field("drift", "array", "what stands in the way, in words", True),
)  # fmt: skip
_POLICY_FIELDS: Final = (
    Field("wake_on_request", "boolean", "a request wakes its engines if all sleep", default="false"),
    Field("idle_sleep_seconds", "number|null", "an engine without requests for so long is put to sleep"),
    Field("sleep_level", "integer", "vLLM's; 1 keeps the weights in the host's memory", default="1"),
    Field("min_awake", "integer", "so many engines stay awake", default="0"),
    Field("busy_in_flight", "integer", "requests at each engine awake that wake another one", default="16"),
    Field("group", "string", "of the models of one group only one is awake", default='""'),
    Field("hold_seconds", "number", "a model of a group stays awake so long at least", default="5"),
    Field("drain_seconds", "number", "running requests have so long before `/sleep` waits for them", default="60"),
)
_POLICY: Final = (
    Field("id", "string", "the model", True),
    Field("object", "string", "what this is", True, values=("model.policy",)),
    *_POLICY_FIELDS,
    Field("version", "integer", "of the record", True),
)
_OURS: Final = ("OpenAI has no such operation",)
_VLLM: Final = ("vLLM has no such route; its engines are told one by one, and forget adapters with a restart",)


def _sdk(method: str, path: str, body: str = "") -> str:
    url = f'"HOST{path}"'
    if not body:
        return f"client.{method}({url}, cast_to=object)"
    return f"client.{method}(\n    {url},\n    cast_to=object,\n    body={body},\n)"


_ONE: Final = "/admin/v1/adapters/sql"
_MODEL: Final = "/admin/v1/policies/m"

DESIRED_DOCS: Final[Mapping[str, OperationDoc]] = MappingProxyType({
    "list_adapters": OperationDoc(
        summary="List the desired adapters with their states", sdk=_sdk("get", "/admin/v1/adapters"), query=_QUERY,
        answer=_PAGE, openai=_OURS, vllm=_VLLM,
    ),
    "get_adapter": OperationDoc(
        summary="Show a desired adapter and its state on each engine", sdk=_sdk("get", _ONE), answer=_ADAPTER,
        openai=_OURS, vllm=_VLLM,
    ),
    "put_adapter": OperationDoc(
        summary="Say that an adapter shall be loaded, and where",
        sdk=_sdk("put", _ONE, '{"path": "/adapters/sql", "base": "m"}'), request_media=JSON,
        request=(*_ADAPTER_FIELDS, Field("replace", "boolean", "change the path or the base", default="false")),
        answer=_ADAPTER,
        openai=(*_OURS, "the answer comes before the adapter is loaded; `state` says how far it is"), vllm=_VLLM,
    ),
    "delete_adapter": OperationDoc(
        summary="Unload an adapter where we loaded it, and forget it", sdk=_sdk("delete", _ONE), answer=_DELETED,
        openai=_OURS, vllm=_VLLM,
    ),
    "list_policies": OperationDoc(
        summary="List the policies of models", sdk=_sdk("get", "/admin/v1/policies"), query=_QUERY, answer=_PAGE,
        openai=_OURS, vllm=_VLLM,
    ),
    "get_policy": OperationDoc(
        summary="Show when the engines of a model sleep and wake", sdk=_sdk("get", _MODEL), answer=_POLICY,
        openai=_OURS, vllm=_VLLM,
    ),
    "put_policy": OperationDoc(
        summary="Say when the engines of a model sleep and wake",
        sdk=_sdk("put", _MODEL, '{"wake_on_request": True, "idle_sleep_seconds": 900}'), request_media=JSON,
        request=_POLICY_FIELDS, answer=_POLICY, openai=_OURS, vllm=_VLLM,
    ),
    "delete_policy": OperationDoc(
        summary="Let the engines of a model be as they are", sdk=_sdk("delete", _MODEL), answer=_DELETED,
        openai=_OURS, vllm=_VLLM,
    ),
})  # fmt: skip
