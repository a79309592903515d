"""What the reference says of every operation that is served: all that generate no text, joined with those that do."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.reference.operation_doc_rows_control import CONTROL_DOCS
from aibrix_extproc.core.openai.reference.operation_doc_rows_desired import DESIRED_DOCS
from aibrix_extproc.core.openai.reference.operation_doc_rows_generation import GENERATION_DOCS, MODEL
from aibrix_extproc.core.openai.reference.operation_doc_rows_interfaces import INTERFACE_DOCS
from aibrix_extproc.core.openai.reference.operation_doc_rows_storage import STORAGE_DOCS
from aibrix_extproc.core.openai.reference.operation_doc_rows_usage import USAGE_DOCS
from aibrix_extproc.core.openai.reference.operation_docs import BYTES, JSON, TEXT, Field, OperationDoc
from aibrix_extproc.core.openai.wire.multipart import MAX_FIELD_BYTES, MAX_HEADERS_BYTES, MAX_PARTS

_NOT_OPENAI: Final = "no part of OpenAI's API"
_MODEL_WANTED: Final = "`model` is required; vLLM takes its base model if there is none"
_TASK: Final = 'a model that cannot do the task is a 400 `unsupported_endpoint`; vLLM answers 404 `{"detail"}`'
_LIST: Final = Field("object", "string", "what this is", True, values=("list",))
_USAGE: Final = Field("usage", "object", "`prompt_tokens` and `total_tokens`", True)
_INPUT: Final = Field(
    "input", "string|array", "a text, texts, token ids, or lists of these; or else there are `messages`"
)

_EMBEDDING: Final = OperationDoc(
    summary="Turn texts into vectors",
    sdk='client.embeddings.create(model="MODEL", input="Hello")',
    request=(
        MODEL,
        _INPUT,
        Field(
            "encoding_format", "string|null", "how numbers are written; the SDK asks for `base64` and decodes it",
            default='"float"', values=("float", "base64", "bytes", "bytes_only"),
        ),
        Field("dimensions", "integer|null", "length of the vectors; for models that were trained for it"),
    ),
    answer=(_LIST, Field("data", "array", "one vector for each input, in order", True), MODEL, _USAGE),
    answer_types=(JSON, BYTES),
    openai=(
        "`dimensions` is a 400 for models that were not trained for it",
        '`encoding_format: "bytes"` gives raw floats and usage in the header `metadata`, `"bytes_only"` without it',
        "`messages` instead of `input` is vLLM's way to embed a conversation or an image",
    ),
    vllm=(_MODEL_WANTED, _TASK),
    limits=("answers of any size pass without being held back",),
)  # fmt: skip
_EMBED_COHERE: Final = OperationDoc(
    summary="Turn texts into vectors (Cohere's form)",
    sdk='client.post("HOST/v2/embed", cast_to=object, body={"model": "MODEL", "texts": ["Hello"]})',
    request=(MODEL, Field("texts", "array", "the texts")),
    openai=(_NOT_OPENAI, "errors have OpenAI's shape, not Cohere's"),
    vllm=(_MODEL_WANTED, _TASK),
)
_RERANK: Final = OperationDoc(
    summary="Order documents by how well they answer a query",
    sdk='client.post("/rerank", cast_to=object, body={"model": "MODEL", "query": "q", "documents": ["a", "b"]})',
    request=(
        MODEL,
        Field("query", "string|object", "what is looked for", True),
        Field("documents", "array|object", "the texts to order", True),
        Field("top_n", "integer", "give only the best; 0 gives all", default="0"),
    ),
    answer=(
        Field("id", "string", "id of the answer", True),
        MODEL,
        Field("results", "array", "`index`, `document` and `relevance_score`, the best first", True),
        _USAGE,
    ),
    openai=(_NOT_OPENAI, "the form is that of Jina's and Cohere's rerankers"),
    vllm=(_MODEL_WANTED, _TASK),
)
_SCORE: Final = OperationDoc(
    summary="Tell how well pairs of texts go together",
    sdk='client.post("/score", cast_to=object, body={"model": "MODEL", "text_1": "a", "text_2": ["b", "c"]})',
    request=(
        MODEL,
        Field("text_1", "string|array|object", "one text, or as many as in `text_2`; also named `queries`"),
        Field("text_2", "string|array|object", "one text or several; also named `documents`"),
    ),
    answer=(_LIST, Field("data", "array", "`index` and `score` for each pair", True), MODEL, _USAGE),
    openai=(_NOT_OPENAI,),
    vllm=(_MODEL_WANTED, _TASK),
)
_CLASSIFY: Final = OperationDoc(
    summary="Sort texts into a model's classes",
    sdk='client.post("HOST/classify", cast_to=object, body={"model": "MODEL", "input": "Hello"})',
    request=(MODEL, _INPUT),
    answer=(_LIST, Field("data", "array", "`label`, `probs` and `num_classes` for each input", True), MODEL, _USAGE),
    openai=(_NOT_OPENAI,),
    vllm=(_MODEL_WANTED, _TASK),
)
_POOLING: Final = OperationDoc(
    summary="Give the pooled output of a model as it is",
    sdk='client.post("HOST/pooling", cast_to=object, body={"model": "MODEL", "input": "Hello"})',
    request=(MODEL, _INPUT),
    answer=(_LIST, Field("data", "array", "numbers for each input", True), MODEL, _USAGE),
    openai=(_NOT_OPENAI,),
    vllm=(_MODEL_WANTED, _TASK),
)
_TOKENIZE: Final = OperationDoc(
    summary="Turn a prompt into token ids",
    sdk='client.post("HOST/tokenize", cast_to=object, body={"model": "MODEL", "prompt": "Hello"})',
    request=(
        MODEL,
        Field("prompt", "string", "a text; or `messages`, which get the model's chat template first"),
        Field("messages", "array", "a conversation, with `tools` if there are some"),
        Field("return_token_strs", "boolean|null", "also give the tokens as text"),
    ),
    answer=(
        Field("count", "integer", "number of tokens", True),
        Field("max_model_len", "integer", "how many the model takes", True),
        Field("tokens", "array", "the ids", True),
        Field("token_strs", "array|null", "the tokens as text"),
    ),
    openai=(_NOT_OPENAI,),
    vllm=(_MODEL_WANTED, "a key is asked for as everywhere; vLLM's own `--api-key` does not guard this path"),
)
_DETOKENIZE: Final = OperationDoc(
    summary="Turn token ids into a text",
    sdk='client.post("HOST/detokenize", cast_to=object, body={"model": "MODEL", "tokens": [1, 2]})',
    request=(MODEL, Field("tokens", "array", "the ids", True)),
    answer=(Field("prompt", "string", "the text", True),),
    openai=_TOKENIZE.openai,
    vllm=_TOKENIZE.vllm,
)

_FILE: Final = Field("file", "file", "the recording, with a file name", True)
_FORM_LIMITS: Final = (
    "the whole form may have `limits.max_audio_bytes`, 25 MiB (26214400 bytes) as with OpenAI; above that 413"
    " `audio_too_large`",
    f"up to {MAX_PARTS} parts, with {MAX_FIELD_BYTES} bytes of text in each and {MAX_HEADERS_BYTES} of headers in all",
    "the last of several fields with one name counts; a part with a `filename` is a file; text is UTF-8",
    "parsers disagree about text before the first boundary, folded headers, `name*` and `filename*` without `filename`,"
    " a `Content-Transfer-Encoding` and anything but a line break behind a boundary: 400 `malformed_multipart`",
    "`file` may stand before or after `model`",
)
_FORMATS: Final = Field(
    "response_format", "string", "form of the answer; `srt` and `vtt` are a 400", default='"json"',
    values=("json", "text", "verbose_json"),
)  # fmt: skip
_TEXT_FORM: Final = "`response_format=text` answers with `text/plain`, as OpenAI does; vLLM answers with JSON"
_TRANSCRIPTION: Final = OperationDoc(
    summary="Write down what is said in a recording",
    sdk='client.audio.transcriptions.create(model="MODEL", file=open("speech.wav", "rb"))',
    request=(
        MODEL,
        _FILE,
        Field("language", "string", "of the recording, as ISO 639-1"),
        Field("prompt", "string", "words that help to understand it"),
        _FORMATS,
        Field("stream", "boolean", "answer with events", default="false"),
        Field("temperature", "number", "randomness"),
    ),
    answer=(
        Field("text", "string", "the transcript", True),
        Field("usage", "object|null", '`{"type": "duration", "seconds": N}`; with `json` only'),
    ),
    answer_types=(JSON, TEXT),
    streaming=(
        "With `stream=true` in the form: `transcript.text.delta` events, then `transcript.text.done` with the whole "
        "text; the stream filter makes them of vLLM's chunks (without metering the chunks pass as they are)"
    ),
    openai=(
        "`response_format` `srt` and `vtt` are a 400 `unsupported_value`: engines do not make subtitles",
        "streamed, `verbose_json` is a 400",
    ),
    vllm=(_TEXT_FORM, "a file over the engine's own limit is a 400 with param `file`", _MODEL_WANTED),
    limits=_FORM_LIMITS,
)
_TRANSLATION: Final = OperationDoc(
    summary="Write down in English what is said in a recording",
    sdk='client.audio.translations.create(model="MODEL", file=open("speech.wav", "rb"))',
    request=(
        MODEL,
        _FILE,
        Field("prompt", "string", "words that help to understand it"),
        _FORMATS,
        Field("stream", "boolean", "answer with events, which only engines know", default="false"),
    ),
    answer=_TRANSCRIPTION.answer[:1],
    answer_types=(JSON, TEXT),
    streaming=_TRANSCRIPTION.streaming,
    openai=(
        _TRANSCRIPTION.openai[0],
        "OpenAI's newest SDKs call this deprecated; it works",
        "`stream=true` streams the events of a transcription; OpenAI does not stream translations",
    ),
    vllm=(_TEXT_FORM, _MODEL_WANTED),
    limits=_FORM_LIMITS,
)

_MODEL_OBJECT: Final = (
    Field("id", "string", "what to write into `model`", True),
    Field("object", "string", "what this is", True, values=("model",)),
    Field("created", "integer", "always the same number: engines do not know", True),
    Field("owned_by", "string", "always `vllm`", True),
    Field("parent", "string", "the base model of a LoRA adapter (extension)"),
    Field("max_model_len", "integer", "how many tokens the model takes (extension)"),
)
_VISIBLE: Final = "a caller sees the models that its key allows, and no others: here, in the list and in use alike"
_LIST_MODELS: Final = OperationDoc(
    summary="List the models that can be used",
    sdk="client.models.list()",
    answer=(
        _LIST,
        Field("data", "array", "model objects: base models, aliases and LoRA adapters of all engines", True),
    ),
    openai=("`parent` and `max_model_len` are extensions", _VISIBLE),
    vllm=("the models of all engines, each once", "`created` does not change; `root` and `permission` are left out"),
)
_RETRIEVE_MODEL: Final = OperationDoc(
    summary="Tell about one model",
    sdk='client.models.retrieve("org/model")',
    answer=_MODEL_OBJECT,
    openai=("`parent` and `max_model_len` are extensions", _VISIBLE),
    vllm=("vLLM has no such route", "the id may hold slashes, raw or as `%2F`"),
)
_DELETE_MODEL: Final = OperationDoc(
    summary="Refuse to delete a model",
    sdk='client.models.delete("org/model")',
    answer_types=(),
    openai=("always refused, as OpenAI refuses it for its own models: 403, or 404 for one that is not there",),
    vllm=("vLLM has no such route",),
)


def _at(doc: OperationDoc, before: str, after: str) -> OperationDoc:
    return replace(doc, sdk=doc.sdk.replace(f'"{before}"', f'"{after}"'))


_CLASSIFY_V1: Final = replace(
    _at(_CLASSIFY, "HOST/classify", "/classify"),
    vllm=(*_CLASSIFY.vllm, "vLLM has it at `/classify`; the gateway rewrites the path"),
)

OPERATION_DOCS: Final[Mapping[str, OperationDoc]] = MappingProxyType({
    **GENERATION_DOCS,
    "embedding": _EMBEDDING,
    "embed_cohere": _EMBED_COHERE,
    "rerank": _RERANK,
    "rerank_root": _at(_RERANK, "/rerank", "HOST/rerank"),
    "rerank_v2": _at(_RERANK, "/rerank", "HOST/v2/rerank"),
    "score": _SCORE,
    "score_root": _at(_SCORE, "/score", "HOST/score"),
    "classify": _CLASSIFY,
    "classify_v1": _CLASSIFY_V1,
    "pooling": _POOLING,
    "tokenize": _TOKENIZE,
    "detokenize": _DETOKENIZE,
    "transcription": _TRANSCRIPTION,
    "translation": _TRANSLATION,
    "list_models": _LIST_MODELS,
    "retrieve_model": _RETRIEVE_MODEL,
    "delete_model": _DELETE_MODEL,
    **INTERFACE_DOCS,
    **STORAGE_DOCS,
    **CONTROL_DOCS,
    **USAGE_DOCS,
    **DESIRED_DOCS,
})  # fmt: skip
