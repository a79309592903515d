"""What the reference says of usage and costs."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.reference.operation_docs import Field, OperationDoc

_START: Final = Field(
    "start_time", "integer", "seconds since the epoch; the first bucket is the one that it is in", True
)
_SPAN: Final = (
    Field("end_time", "integer", "usage from this second on does not count; now without it"),
    Field("group_by", "array", "fields by which results are apart; `group_by[]`, too"),
    Field("limit", "integer", "buckets in a page; 7 of 31 days, 24 of 168 hours, 60 of 1440 minutes"),
    Field("page", "string", "`next_page` of the page before"),
    Field("api_key_ids", "array", "usage of these keys only"),
    Field("user_ids", "array", "usage of these callers only"),
)
_WIDTH: Final = Field("bucket_width", "string", "width of a bucket", default='"1d"', values=("1m", "1h", "1d"))
_FILTERS: Final = (
    Field("models", "array", "usage of these models only"),
    Field("batch", "boolean", "lines of batches only, or all others only"),
)
_PAGE: Final = (
    Field("object", "string", "what this is", True, values=("page",)),
    Field("data", "array", "buckets with `start_time`, `end_time` and `results`; empty ones, too", True),
    Field("has_more", "boolean", "whether buckets follow", True),
    Field("next_page", "string|null", "to be sent as `page`", True),
)
_WHO: Final = (
    "`user_id` is the caller, `api_key_id` the id of the key in the key file; `project_id` and `service_tier` are null"
)
_VLLM: Final = ("vLLM has no such route",)

USAGE_DOCS: Final[Mapping[str, OperationDoc]] = MappingProxyType({
    "usage": OperationDoc(
        summary="Tell the caller's own usage",
        sdk='client.get("/usage?bucket_width=1h", cast_to=object)',
        query=(
            Field("start_time", "integer", "seconds since the epoch; a week ago without it"), _WIDTH, *_SPAN, *_FILTERS,
        ),
        answer=_PAGE,
        openai=(
            "OpenAI has no such operation. All operations are counted, with `num_failed_requests`,"
            " `num_estimated_requests`, `output_reasoning_tokens` and `audio_seconds`; `operation` can be grouped by",
        ),
        vllm=_VLLM,
    ),
    "organization_usage": OperationDoc(
        summary="Tell the usage of all callers",
        sdk="client.admin.organization.usage.completions(start_time=1800000000)",
        query=(_START, _WIDTH, *_SPAN, *_FILTERS),
        answer=_PAGE,
        openai=(
            "kinds are `completions`, `embeddings` (rerank, score and classify, too) and `audio_transcriptions`;"
            " OpenAI's others are empty",
            _WHO,
        ),
        vllm=_VLLM,
    ),
    "organization_costs": OperationDoc(
        summary="Tell what all callers have cost",
        sdk="client.admin.organization.usage.costs(start_time=1800000000)",
        query=(_START, Field("bucket_width", "string", "width of a bucket", default='"1d"', values=("1d",)), *_SPAN),
        answer=_PAGE,
        openai=(
            "amounts are by the prices of now, in `usage.currency`; models without a price cost nothing",
            "`limit` is up to 180", _WHO,
        ),
        vllm=_VLLM,
    ),
})  # fmt: skip
