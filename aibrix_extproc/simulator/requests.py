"""Request bodies as vLLM checks them: pydantic models, so that the error dumps are the real ones.

Unknown fields are kept and ignored, as in vLLM.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Body(BaseModel):
    """What every JSON request has."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None


class StreamOptions(BaseModel):
    """What a client wants to see of a stream."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool | None = True
    continuous_usage_stats: bool | None = False


class Function(BaseModel):
    """A function that the model may call."""

    model_config = ConfigDict(extra="allow")

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(BaseModel):
    """A tool of a chat completion."""

    model_config = ConfigDict(extra="allow")

    type: Literal["function"] = "function"
    function: Function


class NamedFunction(BaseModel):
    """The name inside of a tool choice."""

    name: str


class NamedTool(BaseModel):
    """A tool choice that names its function."""

    function: NamedFunction
    type: Literal["function"] = "function"


class ResponseFormat(BaseModel):
    """What form the answer must have."""

    model_config = ConfigDict(extra="allow")

    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: dict[str, Any] | None = None


class Sampling(Body):
    """What chat and text completions share."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    n: int | None = 1
    seed: int | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    presence_penalty: float | None = 0.0
    frequency_penalty: float | None = 0.0
    min_tokens: int = 0
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    cache_salt: str | None = None
    kv_transfer_params: dict[str, Any] | None = None
    response_format: ResponseFormat | None = None
    user: str | None = None


class ChatBody(Sampling):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = 0
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None


class CompletionBody(Sampling):
    """POST /v1/completions."""

    prompt: list[int] | list[list[int]] | str | list[str] | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None
    echo: bool | None = False
    suffix: str | None = None


class ResponsesBody(Body):
    """POST /v1/responses."""

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool | None = False
    store: bool | None = True
    background: bool | None = False
    previous_response_id: str | None = None
    metadata: dict[str, Any] | None = None
    parallel_tool_calls: bool | None = True
    tools: list[dict[str, Any]] = []
    tool_choice: str | dict[str, Any] = "auto"
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    truncation: Literal["auto", "disabled"] | None = "disabled"
    service_tier: str = "auto"
    top_logprobs: int | None = None
    user: str | None = None
    request_id: str | None = None
    cache_salt: str | None = None


class MessagesBody(Body):
    """POST /v1/messages; unlike elsewhere the model must be named."""

    model: str
    messages: list[dict[str, Any]]
    max_tokens: int
    top_k: int | None = None
    system: str | list[dict[str, Any]] | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = False
    temperature: float | None = None
    top_p: float | None = None
    kv_transfer_params: dict[str, Any] | None = None

    @field_validator("max_tokens")
    @classmethod
    def _must_be_positive(cls, value: int) -> int:
        if value < 1:
            raise ValueError("max_tokens must be positive")
        return value


class CountTokensBody(Body):
    """POST /v1/messages/count_tokens."""

    model: str
    messages: list[dict[str, Any]]
    system: str | list[dict[str, Any]] | None = None


class EmbeddingBody(Body):
    """POST /v1/embeddings."""

    input: list[int] | list[list[int]] | str | list[str] | None = None
    messages: list[dict[str, Any]] | None = None
    encoding_format: Literal["float", "base64", "bytes", "bytes_only"] = "float"
    dimensions: int | None = None


class PoolingBody(Body):
    """POST /pooling and POST /classify."""

    input: list[int] | list[list[int]] | str | list[str]


class CohereEmbedBody(Body):
    """POST /v2/embed."""

    input_type: str | None = None
    texts: list[str] | None = None
    images: list[str] | None = None
    inputs: list[dict[str, Any]] | None = None
    output_dimension: int | None = None
    embedding_types: list[Literal["float", "binary", "ubinary", "base64"]] | None = None
    truncate: Literal["NONE", "START", "END"] = "END"
    max_tokens: int | None = None


class GenerativeScoringBody(Body):
    """POST /generative_scoring."""

    query: str | list[int]
    items: list[str] | list[list[int]]
    label_token_ids: list[int]
    apply_softmax: bool = True
    item_first: bool = False
    add_special_tokens: bool = True
    cache_salt: str | None = None


class ScoreBody(Body):
    """POST /score; newer names and older ones."""

    queries: str | list[str] | None = None
    documents: str | list[str] | None = None
    text_1: str | list[str] | None = None
    text_2: str | list[str] | None = None


class RerankBody(Body):
    """POST /rerank."""

    query: str
    documents: list[str | dict[str, Any]]
    top_n: int = 0


class TokenizeBody(Body):
    """POST /tokenize, of a prompt or of a chat."""

    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    return_token_strs: bool | None = False


class DetokenizeBody(Body):
    """POST /detokenize."""

    tokens: list[int]


class LoadLoraBody(BaseModel):
    """POST /v1/load_lora_adapter."""

    lora_name: str
    lora_path: str
    load_inplace: bool = False


class UpdateWeightsBody(BaseModel):
    """POST /update_weights."""

    update_info: dict[str, Any]


class FinishUpdateBody(BaseModel):
    """POST /finish_weight_update."""

    weight_version: str | None = None


class WeightVersionBody(BaseModel):
    """POST /update_weight_version."""

    new_version: str


class CheckWeightsBody(BaseModel):
    """POST /weight_checker."""

    action: Literal["checksum", "reset", "compare"]
    baseline: dict[str, str] | None = None


class UnloadLoraBody(BaseModel):
    """POST /v1/unload_lora_adapter."""

    lora_name: str
    lora_int_id: int | None = None
