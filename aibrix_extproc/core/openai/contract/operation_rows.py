"""The table: OpenAI's surface, then vLLM's, each row with its treatment."""

from typing import Final

from aibrix_extproc.core.openai.contract.operations import Action, ModelIn, Operation, Router, Stream, UsageIn

GENERATE: Final = frozenset({"generate"})
EMBED: Final = frozenset({"embed"})
SCORE: Final = frozenset({"score", "embed", "classify"})
CLASSIFY: Final = frozenset({"classify"})
POOLING: Final = frozenset({"embed", "classify", "score"})
TRANSCRIBE: Final = frozenset({"transcription"})

_R, _L, _M, _A, _X, _S = (
    Action.ROUTE, Action.LOCAL, Action.METADATA, Action.ADMIN, Action.REFUSE, Action.STICKY,
)  # fmt: skip
_JSON, _FORM, _PATH, _QUERY = ModelIn.JSON, ModelIn.FORM, ModelIn.PATH, ModelIn.QUERY


def _routed(
    name: str, path: str, usage: UsageIn, tasks: frozenset[str], prompt: str | None, stream: Stream = Stream.NONE
) -> Operation:
    return Operation(name, "POST", path, _R, _JSON, stream, usage, prompt, tasks)


_INFERENCE: Final = (
    # id, path, where usage is, tasks, the prompt's field, how it streams
    _routed("chat_completion", "/v1/chat/completions", UsageIn.USAGE, GENERATE, "messages", Stream.DATA_DONE),
    _routed("completion", "/v1/completions", UsageIn.USAGE, GENERATE, "prompt", Stream.DATA_DONE),
    _routed("response", "/v1/responses", UsageIn.RESPONSE_USAGE, GENERATE, "input", Stream.TYPED),
    _routed("embedding", "/v1/embeddings", UsageIn.USAGE, EMBED, "input"),
    _routed("rerank", "/v1/rerank", UsageIn.USAGE, SCORE, "documents"),
    _routed("rerank_root", "/rerank", UsageIn.USAGE, SCORE, "documents"),
    _routed("rerank_v2", "/v2/rerank", UsageIn.USAGE, SCORE, "documents"),
    _routed("score", "/v1/score", UsageIn.USAGE, SCORE, "text_1"),
    _routed("score_root", "/score", UsageIn.USAGE, SCORE, "text_1"),
    _routed("classify", "/classify", UsageIn.USAGE, CLASSIFY, "input"),
    Operation(
        "classify_v1", "POST", "/v1/classify", _R, _JSON, usage_in=UsageIn.USAGE, prompt_param="input", tasks=CLASSIFY,
        note="engines have it at /classify", engine_path="/classify",
    ),
    _routed("pooling", "/pooling", UsageIn.USAGE, POOLING, "input"),
    _routed("tokenize", "/tokenize", UsageIn.NONE, frozenset(), "prompt"),
    _routed("detokenize", "/detokenize", UsageIn.NONE, frozenset(), "tokens"),
    _routed("message", "/v1/messages", UsageIn.MESSAGE_USAGE, GENERATE, "messages", Stream.ANTHROPIC),
    _routed("count_tokens", "/v1/messages/count_tokens", UsageIn.INPUT_TOKENS, GENERATE, "messages"),
    Operation(
        "transcription", "POST", "/v1/audio/transcriptions", _R, _FORM, Stream.TRANSCRIPT, UsageIn.USAGE, "file",
        TRANSCRIBE,
    ),
    Operation(
        "translation", "POST", "/v1/audio/translations", _R, _FORM, Stream.TRANSCRIPT, UsageIn.USAGE, "file", TRANSCRIBE
    ),
)  # fmt: skip

_OPENAI_OTHER: Final = (
    Operation("list_models", "GET", "/v1/models", _L, note="from the fleet; created is stable"),
    Operation("retrieve_model", "GET", "/v1/models/{model...}", _L, _PATH, note="the id may hold slashes, raw or %2F"),
    Operation("delete_model", "DELETE", "/v1/models/{model...}", _L, _PATH, note="refused as OpenAI does"),
    Operation(
        "retrieve_response", "GET", "/v1/responses/{response_id}", _S, stream=Stream.TYPED,
        usage_in=UsageIn.RESPONSE_USAGE, note="held by the engine that made it",
    ),
    Operation("cancel_response", "POST", "/v1/responses/{response_id}/cancel", _S),
    Operation("delete_response", "DELETE", "/v1/responses/{response_id}", _S, note="vLLM cannot delete: 404"),
    Operation("list_input_items", "GET", "/v1/responses/{response_id}/input_items", _S, note="vLLM has none: 404"),
    Operation(
        "input_tokens", "POST", "/v1/responses/input_tokens", _X, _JSON,
        note="what items, tools and an earlier response make of a prompt only the engine knows, and vLLM has no route "
        "that counts it; for chats there are `/tokenize` and `/v1/messages/count_tokens`",
    ),
    Operation("compact_response", "POST", "/v1/responses/compact", _X, _JSON),
    Operation("stored_completions", "GET", "/v1/chat/completions/{completion_id...}", _X),
    Operation("speech", "POST", "/v1/audio/speech", _X, _JSON),
    Operation("image_generation", "POST", "/v1/images/generations", _X, _JSON),
    Operation("image_edit", "POST", "/v1/images/edits", _X, _FORM),
    Operation("image_variation", "POST", "/v1/images/variations", _X, _FORM),
    Operation("moderation", "POST", "/v1/moderations", _X, _JSON),
    Operation("create_file", "POST", "/v1/files", _M),
    Operation("list_files", "GET", "/v1/files", _M),
    Operation("retrieve_file", "GET", "/v1/files/{file_id}", _M),
    Operation("delete_file", "DELETE", "/v1/files/{file_id}", _M),
    Operation("file_content", "GET", "/v1/files/{file_id}/content", _M),
    Operation("create_upload", "POST", "/v1/uploads", _M),
    Operation("add_upload_part", "POST", "/v1/uploads/{upload_id}/parts", _M),
    Operation("complete_upload", "POST", "/v1/uploads/{upload_id}/complete", _M),
    Operation("cancel_upload", "POST", "/v1/uploads/{upload_id}/cancel", _M),
    Operation("create_batch", "POST", "/v1/batches", _M),
    Operation("list_batches", "GET", "/v1/batches", _M),
    Operation("retrieve_batch", "GET", "/v1/batches/{batch_id}", _M),
    Operation("cancel_batch", "POST", "/v1/batches/{batch_id}/cancel", _M),
    Operation("realtime", "GET", "/v1/realtime", _X, _QUERY, note="vLLM's protocol there is not OpenAI's"),
    *(
        Operation(f"{name}_{method.lower()}", method, f"/v1/{name}/{{rest...}}", _X)
        for name in ("fine_tuning", "evals", "vector_stores", "assistants", "threads", "containers", "conversations",
                     "videos", "skills", "chatkit", "organization", "projects")
        for method in ("GET", "POST", "DELETE")
    ),
)  # fmt: skip

_VLLM_OTHER: Final = (
    Operation("load_lora_adapter", "POST", "/v1/load_lora_adapter", _A),
    Operation("unload_lora_adapter", "POST", "/v1/unload_lora_adapter", _A),
    Operation("adapters", "POST", "/adapters", _X, note="SageMaker's alias of LoRA loading"),
    Operation("remove_adapter", "DELETE", "/adapters/{name}", _X),
    Operation("invocations", "POST", "/invocations", _X, note="unauthenticated in vLLM even with --api-key"),
    Operation("health", "GET", "/health", _A, note="probed by the gateway, not for clients"),
    Operation("ping_get", "GET", "/ping", _A),
    Operation("ping", "POST", "/ping", _A),
    Operation("version", "GET", "/version", _A),
    Operation("load", "GET", "/load", _A),
    Operation("metrics", "GET", "/metrics", _A),
    Operation("kv_event_sources", "GET", "/kv_event_sources", _A),
    Operation("tokenizer_info", "GET", "/tokenizer_info", _A),
    Operation("start_profile", "POST", "/start_profile", _A),
    Operation("stop_profile", "POST", "/stop_profile", _A),
    Operation("sleep", "POST", "/sleep", _A),
    Operation("wake_up", "POST", "/wake_up", _A),
    Operation("is_sleeping", "GET", "/is_sleeping", _A),
    Operation("pause", "POST", "/pause", _A),
    Operation("resume", "POST", "/resume", _A),
    Operation("is_paused", "GET", "/is_paused", _A),
    Operation("reset_prefix_cache", "POST", "/reset_prefix_cache", _A),
    Operation("reset_mm_cache", "POST", "/reset_mm_cache", _A),
    Operation("reset_encoder_cache", "POST", "/reset_encoder_cache", _A),
    Operation("release_kv_cache_memory", "POST", "/release_kv_cache_memory", _A),
    Operation("server_info", "GET", "/server_info", _A),
    Operation("abort_requests", "POST", "/abort_requests", _A),
    Operation("scale_elastic_ep", "POST", "/scale_elastic_ep", _A),
    Operation("is_scaling_elastic_ep", "POST", "/is_scaling_elastic_ep", _A),
    Operation("collective_rpc", "POST", "/collective_rpc", _X, note="runs any method inside the engine"),
    Operation("batch_chat", "POST", "/v1/chat/completions/batch", _X),
    Operation("systemone", "POST", "/v1/systemone", _X),
    Operation("generative_scoring", "POST", "/generative_scoring", _R, _JSON, usage_in=UsageIn.USAGE, tasks=GENERATE),
    Operation("embed_cohere", "POST", "/v2/embed", _R, _JSON, tasks=EMBED, note="Cohere's shape, passed through"),
    Operation("cohere_chat", "POST", "/cohere/v2/chat", _X),
    Operation("generate", "POST", "/inference/v1/generate", _X, note="between prefill and decode engines only"),
    Operation("inference_abort", "POST", "/inference/v1/abort_requests", _X),
    *(
        Operation(f"{name}_render", "POST", f"/v1/{path}/render", _X)
        for name, path in (("chat", "chat/completions"), ("completion", "completions"), ("message", "messages"),
                           ("response", "responses"))
    ),
    Operation("chat_derender", "POST", "/v1/chat/completions/derender", _X),
    Operation("completion_derender", "POST", "/v1/completions/derender", _X),
    *(
        Operation(name, "POST", f"/{name}", _X, note="weight transfer for reinforcement learning")
        for name in ("init_weight_transfer_engine", "start_weight_update", "update_weights", "finish_weight_update",
                     "update_weight_version", "weight_checker")
    ),
    Operation("weight_info", "GET", "/weight_info", _X),
    Operation("get_world_size", "GET", "/get_world_size", _X),
    Operation("docs", "GET", "/docs", _X),
    Operation("redoc", "GET", "/redoc", _X),
    Operation("openapi", "GET", "/openapi.json", _X),
)  # fmt: skip

# Not of the API: its path is a setting, and it takes no key.
GATEWAY_HEALTH: Final = Operation("gateway_health", "GET", "/healthz", _L)
OPERATIONS: Final[tuple[Operation, ...]] = (*_INFERENCE, *_OPENAI_OTHER, *_VLLM_OTHER)
ROUTER: Final = Router(OPERATIONS)
