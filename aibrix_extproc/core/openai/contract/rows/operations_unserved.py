"""Operations that a user never reaches: 404, as for an unknown URL."""

from typing import Final

from aibrix_extproc.core.openai.contract.operations import Action, ModelIn, Operation

# Known to OpenAI's SDKs, and served by no part of this system.
OPENAI_ROWS: Final = (
    Operation(
        "input_tokens", "POST", "/v1/responses/input_tokens",
        action=Action.REFUSE, model_in=ModelIn.JSON,
        note=(
            "what items, tools and an earlier response make of a prompt only the engine knows, and vLLM has no "
            "route that counts it; for chats there are `/tokenize` and `/v1/messages/count_tokens`"
        ),
    ),
    Operation("compact_response", "POST", "/v1/responses/compact", action=Action.REFUSE, model_in=ModelIn.JSON),
    Operation("stored_completions", "GET", "/v1/chat/completions/{completion_id...}", action=Action.REFUSE),
    Operation("speech", "POST", "/v1/audio/speech", action=Action.REFUSE, model_in=ModelIn.JSON),
    Operation("image_generation", "POST", "/v1/images/generations", action=Action.REFUSE, model_in=ModelIn.JSON),
    Operation("image_edit", "POST", "/v1/images/edits", action=Action.REFUSE, model_in=ModelIn.FORM),
    Operation("image_variation", "POST", "/v1/images/variations", action=Action.REFUSE, model_in=ModelIn.FORM),
    Operation("moderation", "POST", "/v1/moderations", action=Action.REFUSE, model_in=ModelIn.JSON),
    Operation(
        "realtime", "GET", "/v1/realtime",
        action=Action.REFUSE, model_in=ModelIn.QUERY,
        note="vLLM's protocol there is not OpenAI's",
    ),
    *(
        Operation(f"{name}_{method.lower()}", method, f"/v1/{name}/{{rest...}}", action=Action.REFUSE)
        for name in ("fine_tuning", "evals", "vector_stores", "assistants", "threads", "containers", "conversations",
                     "videos", "skills", "chatkit", "organization", "projects")
        for method in ("GET", "POST", "DELETE")
    ),
)  # fmt: skip

# Known to vLLM, and not for users.
VLLM_ROWS: Final = (
    Operation("adapters", "POST", "/adapters", action=Action.REFUSE, note="SageMaker's alias of LoRA loading"),
    Operation("remove_adapter", "DELETE", "/adapters/{name}", action=Action.REFUSE),
    Operation(
        "invocations", "POST", "/invocations",
        action=Action.REFUSE,
        note="unauthenticated in vLLM even with --api-key",
    ),
    Operation(
        "collective_rpc", "POST", "/collective_rpc",
        action=Action.REFUSE,
        note="runs any method inside the engine",
    ),
    Operation("batch_chat", "POST", "/v1/chat/completions/batch", action=Action.REFUSE),
    Operation("decisions", "POST", "/v1/decisions", action=Action.REFUSE, note="from vLLM 0.33 on; few models have it"),
    Operation("systemone", "POST", "/v1/systemone", action=Action.REFUSE, note="from vLLM 0.33 on; few models have it"),
    Operation("cohere_chat", "POST", "/cohere/v2/chat", action=Action.REFUSE, note="use `/v1/chat/completions`"),
    Operation("cohere_chat_render", "POST", "/cohere/v2/chat/render", action=Action.REFUSE),
    Operation(
        "generate", "POST", "/inference/v1/generate",
        action=Action.REFUSE,
        note="between prefill and decode engines only",
    ),
    Operation("inference_abort", "POST", "/inference/v1/abort_requests", action=Action.REFUSE),
    *(
        Operation(f"{name}_render", "POST", f"/v1/{path}/render", action=Action.REFUSE, anthropic=name == "message")
        for name, path in (("chat", "chat/completions"), ("completion", "completions"), ("message", "messages"),
                           ("response", "responses"))
    ),
    Operation("chat_derender", "POST", "/v1/chat/completions/derender", action=Action.REFUSE),
    Operation("completion_derender", "POST", "/v1/completions/derender", action=Action.REFUSE),
    *(
        Operation(name, "POST", f"/{name}", action=Action.REFUSE, note="joins an engine with other processes")
        for name in ("init_weight_transfer_engine", "shutdown_weight_transfer_engine", "start_draft_weight_update")
    ),
    Operation(
        "fault_tolerance", "POST", "/fault_tolerance/apply", action=Action.REFUSE, note="steers the ranks of an engine"
    ),
    Operation("fault_tolerance_status", "GET", "/fault_tolerance/status", action=Action.REFUSE),
    Operation("docs", "GET", "/docs", action=Action.REFUSE),
    Operation("redoc", "GET", "/redoc", action=Action.REFUSE),
    Operation("openapi", "GET", "/openapi.json", action=Action.REFUSE),
)  # fmt: skip

# An engine's operational interface, never for the keys of users.
ADMINISTRATION_ROWS: Final = (
    Operation("health", "GET", "/health", action=Action.ADMIN, note="probed by the gateway, not for clients"),
    Operation("ping_get", "GET", "/ping", action=Action.ADMIN),
    Operation("ping", "POST", "/ping", action=Action.ADMIN),
    Operation("metrics", "GET", "/metrics", action=Action.ADMIN),
    Operation("kv_event_sources", "GET", "/kv_event_sources", action=Action.ADMIN),
    Operation("scale_elastic_ep", "POST", "/scale_elastic_ep", action=Action.ADMIN),
    Operation("is_scaling_elastic_ep", "POST", "/is_scaling_elastic_ep", action=Action.ADMIN),
)  # fmt: skip
