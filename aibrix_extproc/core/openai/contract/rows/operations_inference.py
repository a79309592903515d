"""Operations that an engine answers: by the model that the request names, or by the engine that made a response."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.operations import Action, ModelIn, Operation, Stream, UsageIn

GENERATE: Final = frozenset({"generate"})
EMBED: Final = frozenset({"embed"})
CLASSIFY: Final = frozenset({"classify"})
POOLING: Final = frozenset({"embed", "classify", "score"})
TRANSCRIBE: Final = frozenset({"transcription"})

NOT_RUST: Final = frozenset({"rust"})  # vLLM's frontend in Rust does not have these
_OUTPUT_TOKENS: Final[Mapping[str, str]] = MappingProxyType(
    {"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}
)

ROWS: Final = (
    Operation(
        "chat_completion", "POST", "/v1/chat/completions",
        action=Action.ROUTE, model_in=ModelIn.JSON, tasks=GENERATE, prompt_param="messages",
        batch_name="Chat Completions", answer_limits=("max_completion_tokens", "max_tokens"),
        stream=Stream.DATA_DONE, usage_in=UsageIn.USAGE, never_short=True,
    ),
    Operation(
        "completion", "POST", "/v1/completions",
        action=Action.ROUTE, model_in=ModelIn.JSON, tasks=GENERATE, prompt_param="prompt", batch_name="Completions",
        answer_limits=("max_tokens",),
        stream=Stream.DATA_DONE, usage_in=UsageIn.USAGE, never_short=True,
        logprobs_param="logprobs",
    ),
    Operation(
        "response", "POST", "/v1/responses",
        action=Action.ROUTE, model_in=ModelIn.JSON, tasks=GENERATE, prompt_param="input", batch_name="Responses",
        lacking_frontends=NOT_RUST,
        stream=Stream.TYPED, usage_in=UsageIn.RESPONSE_USAGE, never_short=True, makes_response=True,
        field_names=_OUTPUT_TOKENS,
    ),
    Operation(
        "embedding", "POST", "/v1/embeddings",
        action=Action.ROUTE, model_in=ModelIn.JSON, tasks=EMBED, prompt_param="input", batch_name="Embeddings",
        usage_in=UsageIn.USAGE,
    ),
    Operation(
        "rerank", "POST", "/v1/rerank",
        action=Action.ROUTE, model_in=ModelIn.JSON, tasks=POOLING, prompt_param="documents", batch_name="Rerank",
        usage_in=UsageIn.USAGE,
    ),
    Operation(
        "rerank_root", "POST", "/rerank",
        action=Action.ROUTE, model_in=ModelIn.JSON, tasks=POOLING, prompt_param="documents",
        usage_in=UsageIn.USAGE,
    ),
    Operation(
        "rerank_v2", "POST", "/v2/rerank",
        action=Action.ROUTE, model_in=ModelIn.JSON, tasks=POOLING, prompt_param="documents",
        usage_in=UsageIn.USAGE,
    ),
    Operation(
        "score", "POST", "/v1/score",
        action=Action.ROUTE, model_in=ModelIn.JSON, tasks=POOLING, prompt_param="text_1", batch_name="Score",
        usage_in=UsageIn.USAGE,
    ),
    Operation(
        "score_root", "POST", "/score",
        action=Action.ROUTE, model_in=ModelIn.JSON, tasks=POOLING, prompt_param="text_1",
        usage_in=UsageIn.USAGE,
    ),
    Operation(
        "classify", "POST", "/classify",
        action=Action.ROUTE, model_in=ModelIn.JSON, tasks=CLASSIFY, prompt_param="input",
        usage_in=UsageIn.USAGE,
    ),
    Operation(
        "classify_v1", "POST", "/v1/classify",
        action=Action.ROUTE, model_in=ModelIn.JSON, tasks=CLASSIFY, prompt_param="input", batch_name="Classify",
        engine_path="/classify",
        usage_in=UsageIn.USAGE,
        note="engines have it at /classify",
    ),
    Operation(
        "pooling", "POST", "/pooling",
        action=Action.ROUTE, model_in=ModelIn.JSON, tasks=POOLING, prompt_param="input",
        usage_in=UsageIn.USAGE,
    ),
    Operation("tokenize", "POST", "/tokenize", action=Action.ROUTE, model_in=ModelIn.JSON, prompt_param="prompt"),
    Operation("detokenize", "POST", "/detokenize", action=Action.ROUTE, model_in=ModelIn.JSON, prompt_param="tokens"),
    Operation(
        "message", "POST", "/v1/messages",
        action=Action.ROUTE, model_in=ModelIn.JSON, tasks=GENERATE, prompt_param="messages",
        answer_limits=("max_tokens",),
        lacking_frontends=NOT_RUST,
        stream=Stream.ANTHROPIC, usage_in=UsageIn.MESSAGE_USAGE, anthropic=True,
    ),
    Operation(
        "count_tokens", "POST", "/v1/messages/count_tokens",
        action=Action.ROUTE, model_in=ModelIn.JSON, tasks=GENERATE, prompt_param="messages",
        lacking_frontends=NOT_RUST,
        usage_in=UsageIn.INPUT_TOKENS, anthropic=True,
    ),
    Operation(
        "transcription", "POST", "/v1/audio/transcriptions",
        action=Action.ROUTE, model_in=ModelIn.FORM, tasks=TRANSCRIBE, prompt_param="file",
        stream=Stream.TRANSCRIPT, usage_in=UsageIn.USAGE,
    ),
    Operation(
        "translation", "POST", "/v1/audio/translations",
        action=Action.ROUTE, model_in=ModelIn.FORM, tasks=TRANSCRIBE, prompt_param="file",
        stream=Stream.TRANSCRIPT, usage_in=UsageIn.USAGE,
    ),
    Operation(
        "generative_scoring", "POST", "/generative_scoring",
        action=Action.ROUTE, model_in=ModelIn.JSON, tasks=GENERATE, lacking_frontends=NOT_RUST,
        usage_in=UsageIn.USAGE,
    ),
    Operation(
        "embed_cohere", "POST", "/v2/embed",
        action=Action.ROUTE, model_in=ModelIn.JSON, tasks=EMBED,
        note="Cohere's shape, passed through",
    ),
)  # fmt: skip

# Of responses that an engine holds.
RESPONSE_ROWS: Final = (
    Operation(
        "retrieve_response", "GET", "/v1/responses/{response_id}",
        action=Action.STICKY,
        stream=Stream.TYPED, usage_in=UsageIn.RESPONSE_USAGE,
        note="held by the engine that made it",
    ),
    Operation("cancel_response", "POST", "/v1/responses/{response_id}/cancel", action=Action.STICKY),
    Operation(
        "delete_response", "DELETE", "/v1/responses/{response_id}",
        action=Action.STICKY,
        note="vLLM cannot delete: 404",
    ),
    Operation(
        "list_input_items", "GET", "/v1/responses/{response_id}/input_items",
        action=Action.STICKY,
        note="vLLM has none: 404",
    ),
)  # fmt: skip
