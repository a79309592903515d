"""What the reference says of operations that generate text."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.reference.operation_docs import Field, OperationDoc

MODEL: Final = Field("model", "string", "id of a model, an alias or a LoRA adapter, as `GET /v1/models` lists it", True)
_STREAM: Final = Field("stream", "boolean", "answer with events while the text is being made", default="false")
_STREAM_OPTIONS: Final = Field(
    "stream_options", "object|null", '`{"include_usage": true}` asks for the usage; only with `stream`'
)
_MAX_TOKENS: Final = Field("max_tokens", "integer|null", "most tokens to generate")
_TEMPERATURE: Final = Field("temperature", "number|null", "randomness")
_TOP_P: Final = Field("top_p", "number|null", "share of the likeliest tokens that are considered")
_N: Final = Field("n", "integer|null", "number of answers", default="1")
_STOP: Final = Field("stop", "string|array|null", "texts that end the answer")
_TOOLS: Final = Field("tools", "array|null", "functions that the model may call")
_TOOL_CHOICE: Final = Field("tool_choice", "string|object|null", "whether and which")
_ID: Final = Field("id", "string", "id of the answer; not the request id", True)
_CREATED: Final = Field("created", "integer", "seconds since the epoch", True)
_MODEL_OUT: Final = Field(
    "model", "string", "the model that answered, by the first name that its engine has for it", True
)
_CHOICES: Final = Field("choices", "array", "the answers", True)
_USAGE: Final = Field("usage", "object|null", "`prompt_tokens`, `completion_tokens`, `total_tokens`")

_PASSED: Final = (
    "fields that vLLM adds (`top_k`, `min_p`, `structured_outputs`, `chat_template_kwargs` ...) are forwarded; in the "
    "SDK they go into `extra_body`"
)
_IGNORED: Final = "fields that no engine knows are ignored, where OpenAI answers 400 `unknown_parameter`"
_MODEL_WANTED: Final = "`model` is required, as with OpenAI; vLLM takes its base model if there is none"
_ABORTED: Final = (
    'an engine that is paused or put to sleep ends answers with `finish_reason: "abort"`, which no SDK knows; a '
    "whole answer is asked for again where the answer filter is installed, and in a stream it becomes an error event "
    "where the stream filter is"
)

_CHAT: Final = OperationDoc(
    summary="Answer a conversation",
    sdk='client.chat.completions.create(model="MODEL", messages=[{"role": "user", "content": "Hello"}])',
    request=(
        MODEL,
        Field("messages", "array", "the conversation so far; texts, images, audio and video as the model can", True),
        _STREAM,
        _STREAM_OPTIONS,
        Field("max_completion_tokens", "integer|null", "most tokens to generate; `max_tokens` is the older name"),
        _MAX_TOKENS,
        _TEMPERATURE,
        _TOP_P,
        _N,
        _STOP,
        Field("seed", "integer|null", "for answers that can be repeated"),
        Field("logprobs", "boolean|null", "tell how likely each token was"),
        Field("response_format", "object|null", "`json_object` or a `json_schema` that the answer must follow"),
        _TOOLS,
        _TOOL_CHOICE,
    ),
    answer=(
        _ID,
        Field("object", "string", "what this is", True, values=("chat.completion",)),
        _CREATED,
        _MODEL_OUT,
        _CHOICES,
        _USAGE,
    ),
    streaming=(
        "With `stream: true`: `data:` lines with `chat.completion.chunk` objects, then `data: [DONE]`. With "
        "`stream_options.include_usage` one more chunk with `choices: []` and the usage stands before `[DONE]`"
    ),
    openai=(
        _IGNORED,
        "`store`, `metadata`, `service_tier` and `modalities` have no effect; there are no stored completions",
        "reasoning models of vLLM give their thoughts in `reasoning` of the message or delta",
        '`tool_choice: "auto"` needs an engine that was started with a tool parser, else 400 with param `tool_choice`',
        "`usage.prompt_tokens_details.cached_tokens` only if the engine was started to tell it",
    ),
    vllm=(_MODEL_WANTED, _PASSED, _ABORTED),
)

_COMPLETION: Final = OperationDoc(
    summary="Continue a text",
    sdk='client.completions.create(model="MODEL", prompt="Once upon a time")',
    request=(
        MODEL,
        Field("prompt", "string|array", "a text, texts, or token ids", True),
        _STREAM,
        _STREAM_OPTIONS,
        _MAX_TOKENS,
        _TEMPERATURE,
        _TOP_P,
        _N,
        _STOP,
        Field("echo", "boolean|null", "repeat the prompt in front of the answer"),
        Field("logprobs", "integer|null", "tell this many likely tokens for each position"),
        Field("suffix", "string|null", "what comes after the answer; for models that fill in the middle"),
    ),
    answer=(
        _ID,
        Field("object", "string", "what this is", True, values=("text_completion",)),
        _CREATED,
        _MODEL_OUT,
        _CHOICES,
        _USAGE,
    ),
    streaming=(
        "With `stream: true`: `data:` lines with `text_completion` objects, then `data: [DONE]`; usage as for chat "
        "completions"
    ),
    openai=(_IGNORED, "`suffix` is a 400 for models that cannot fill in the middle"),
    vllm=(_MODEL_WANTED, _PASSED, _ABORTED),
)

_RESPONSE_ANSWER: Final = (
    Field("id", "string", "name of the response, `resp_...`", True),
    Field("object", "string", "what this is", True, values=("response",)),
    Field("created_at", "number", "seconds since the epoch", True),
    _MODEL_OUT,
    Field("status", "string", "`completed`, `incomplete`, `in_progress`, `queued`, `failed` or `cancelled`", True),
    Field("output", "array", "messages, reasoning and calls of tools", True),
    Field("error", "object|null", "`code` and `message` if it failed"),
    Field("incomplete_details", "object|null", "`reason`, such as `max_output_tokens`"),
    Field("usage", "object|null", "`input_tokens`, `output_tokens`, `total_tokens` and their details"),
)
_KEPT: Final = (
    "the engine that makes a response keeps it in its memory, and only if it was started with its response store on; "
    "the gateway remembers which engine that is, for a while, and for the caller who asked"
)
_LOST: Final = "what the engine forgot, what another caller made and what never was are all the same 404 `not_found`"

_RESPONSE: Final = OperationDoc(
    summary="Make a model response (Responses API)",
    sdk='client.responses.create(model="MODEL", input="Hello")',
    request=(
        Field("model", MODEL.kind, MODEL.meaning + "; required here also with `previous_response_id`", True),
        Field("input", "string|array", "a text, or a list of items", True),
        Field("instructions", "string|null", "system message"),
        Field("previous_response_id", "string|null", "goes on from there; sent to the engine that has it"),
        _STREAM,
        Field("max_output_tokens", "integer|null", "most tokens to generate"),
        _TEMPERATURE,
        _TOP_P,
        _TOOLS,
        _TOOL_CHOICE,
        Field("text", "object|null", "format of the answer"),
        Field("reasoning", "object|null", "how much to think"),
        Field("background", "boolean|null", "answer at once and go on working; needs the engine's store"),
        Field("store", "boolean|null", "keep the response for later requests"),
    ),
    answer=_RESPONSE_ANSWER,
    streaming=(
        "With `stream: true`: typed events (`event:` and `data:` with `type` and `sequence_number`), from "
        "`response.created` to `response.completed`; no `[DONE]`. Usage stands in the last event"
    ),
    openai=(
        _IGNORED,
        "a stream that ran out of tokens ends with `response.completed` whose `response.status` is `incomplete`, where "
        "OpenAI sends `response.incomplete`; read the status",
        "`conversation`, `prompt` templates and OpenAI's hosted tools are not there",
        _KEPT,
    ),
    vllm=(
        _MODEL_WANTED,
        "the id is chosen by the gateway (vLLM's `request_id` is set in the request)",
        "vLLM ends a stream without any event when its engine dies; here it gets an `error` event, or the connection "
        "breaks, and the SDK raises",
    ),
)

_RETRIEVE: Final = OperationDoc(
    summary="Read a response that was stored",
    sdk='client.responses.retrieve("resp_1")',
    query=(
        Field("stream", "boolean", "replay it as events", default="false"),
        Field("starting_after", "integer", "only events with a larger `sequence_number`"),
    ),
    answer=_RESPONSE_ANSWER,
    streaming="With `?stream=true`: the typed events of the response, again",
    openai=(_KEPT, _LOST),
    vllm=(
        "an engine knows only its own responses; here the request goes to the one that has it",
        "vLLM replays only responses that were made with `background` and `stream`. Asked for events of another one it "
        "breaks the connection: a 502, or an exception of the SDK if the head was out already",
    ),
)
_CANCEL: Final = OperationDoc(
    summary="Stop a response that is made in the background",
    sdk='client.responses.cancel("resp_1")',
    answer=_RESPONSE_ANSWER,
    openai=(_KEPT, _LOST),
)
_DELETE: Final = OperationDoc(
    summary="Delete a response that was stored",
    sdk='client.responses.delete("resp_1")',
    openai=("vLLM 0.32 cannot delete responses: a 404, also for one that is there", _LOST),
)
_INPUT_ITEMS: Final = OperationDoc(
    summary="List what a response was made from",
    sdk='client.responses.input_items.list("resp_1")',
    answer=(
        Field("object", "string", "what this is", True, values=("list",)),
        Field("data", "array", "the items", True),
    ),
    openai=("vLLM 0.32 does not list input items: a 404, also for a response that is there", _LOST),
)

_MESSAGE: Final = OperationDoc(
    summary="Answer a conversation (Anthropic's Messages API)",
    sdk='anthropic.messages.create(model="MODEL", max_tokens=256, messages=[{"role": "user", "content": "Hello"}])',
    request=(
        MODEL,
        Field("messages", "array", "the conversation so far", True),
        Field("max_tokens", "integer", "most tokens to generate", True),
        Field("system", "string|array|null", "system prompt"),
        _STREAM,
        _TEMPERATURE,
        Field("tools", "array|null", "functions that the model may call"),
        Field("tool_choice", "object|null", "whether and which"),
    ),
    answer=(
        _ID,
        Field("type", "string", "what this is", True, values=("message",)),
        Field("role", "string", "who speaks", True, values=("assistant",)),
        Field("content", "array", "blocks of text and calls of tools", True),
        _MODEL_OUT,
        Field("stop_reason", "string|null", "`end_turn`, `max_tokens`, `stop_sequence` or `tool_use`"),
        Field("usage", "object", "`input_tokens`, `output_tokens` and what the cache gave and took", True),
    ),
    streaming=(
        "With `stream: true`: Anthropic's events from `message_start` to `message_stop`; no `[DONE]` and no `ping`. "
        "Usage is split over `message_start` and `message_delta`"
    ),
    openai=(
        "no part of OpenAI's API: errors have Anthropic's shape, with the request id in `request_id`",
        "the key goes into `x-api-key`, as Anthropic's SDK sends it, or into `Authorization: Bearer`",
        "`anthropic-version` and `anthropic-beta` are taken and have no effect",
    ),
    vllm=("errors of the request's form have Anthropic's shape too; vLLM tells them in OpenAI's", _MODEL_WANTED),
)
_COUNT: Final = OperationDoc(
    summary="Count the tokens of a conversation (Anthropic's Messages API)",
    sdk='anthropic.messages.count_tokens(model="MODEL", messages=[{"role": "user", "content": "Hello"}])',
    request=(*_MESSAGE.request[:2], _MESSAGE.request[3], _MESSAGE.request[6]),
    answer=(Field("input_tokens", "integer", "tokens of the prompt", True),),
    openai=(_MESSAGE.openai[0], _MESSAGE.openai[1]),
    vllm=(_MODEL_WANTED,),
)
_SCORING: Final = OperationDoc(
    summary="Tell how likely given continuations are (vLLM)",
    sdk='client.post(\n    "HOST/generative_scoring",\n    cast_to=object,\n'
    '    body={"model": "MODEL", "query": "2 + 2 =", "items": [" 4", " 5"], "label_token_ids": [9642, 2822]},\n)',
    request=(
        MODEL,
        Field("query", "string|array", "the beginning, as text or tokens", True),
        Field("items", "array", "texts or lists of tokens; each one follows the query", True),
        Field("label_token_ids", "array", "tokens that may follow; the first one's probability is the score", True),
        Field("apply_softmax", "boolean", "among the labels, not among all tokens", default="true"),
        Field("item_first", "boolean", "the item stands before the query", default="false"),
    ),
    answer=(
        Field("data", "array", "`index` and `score` for each item", True),
        Field("usage", "object|null", "`prompt_tokens`, `completion_tokens`, `total_tokens`"),
    ),
    openai=("no part of OpenAI's API",),
    vllm=(_MODEL_WANTED,),
)

GENERATION_DOCS: Final[Mapping[str, OperationDoc]] = MappingProxyType({
    "chat_completion": _CHAT,
    "completion": _COMPLETION,
    "response": _RESPONSE,
    "retrieve_response": _RETRIEVE,
    "cancel_response": _CANCEL,
    "delete_response": _DELETE,
    "list_input_items": _INPUT_ITEMS,
    "message": _MESSAGE,
    "count_tokens": _COUNT,
    "generative_scoring": _SCORING,
})  # fmt: skip
