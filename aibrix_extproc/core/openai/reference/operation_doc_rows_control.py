"""What the reference says of operations for those who operate the system."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.reference.operation_docs import Field, OperationDoc

_PAGE: Final = (
    Field("object", "string", "what this is", True, values=("list",)),
    Field("data", "array", "the objects of the page", True),
    Field("first_id", "string|null", "id of the first", True),
    Field("last_id", "string|null", "id of the last, to be sent as `after`", True),
    Field("has_more", "boolean", "whether more follow", True),
)
_AFTER: Final = Field("after", "string", "id of the last object of the page before")
_OURS: Final = ("OpenAI has no such operation",)
_VLLM: Final = ("vLLM has no such route",)

CONTROL_DOCS: Final[Mapping[str, OperationDoc]] = MappingProxyType({
    "list_audit": OperationDoc(
        summary="List what administrators and operators have changed, newest first",
        sdk='client.get("HOST/admin/v1/audit", cast_to=object)',
        query=(
            Field("limit", "integer", "objects in a page, 1 to 1000", default="100"),
            _AFTER,
            Field("caller", "string", "entries of this caller only"),
            Field("operation", "string", "entries of this operation only"),
        ),
        answer=_PAGE,
        openai=(
            *_OURS,
            "an entry has `at`, `caller`, `key_id`, `operation`, `target`, `request_id` and `result`: `ok`, the key of"
            " an error, or `started` while it runs, and for good if its process died",
        ),
        vllm=_VLLM,
    ),
})  # fmt: skip
