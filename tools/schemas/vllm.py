"""`python -m tools.schemas.vllm`, run by the Python of an installed vLLM: writes the schemas of its own types.

Its `/openapi.json` has the same requests, but no answers, and only what the model of that engine can do.
"""

import importlib
import json
import sys
from collections.abc import Iterator
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from tools.schemas.tidy import tidied
from tools.schemas.unions import discriminated

FOLDER: Final = Path(__file__).parents[2] / "aibrix_extproc" / "interfaces" / "schemas"
_ENTRYPOINTS: Final = "vllm.entrypoints."
# Operation -> place -> module of the types, and their names; several are a union.
_TYPES: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "chat_completion": {
        "request": ("openai.chat_completion.protocol", "ChatCompletionRequest"),
        "answer": ("openai.chat_completion.protocol", "ChatCompletionResponse"),
        "events": ("openai.chat_completion.protocol", "ChatCompletionStreamResponse"),
    },
    "completion": {
        "request": ("openai.completion.protocol", "CompletionRequest"),
        "answer": ("openai.completion.protocol", "CompletionResponse"),
        "events": ("openai.completion.protocol", "CompletionStreamResponse"),
    },
    "response": {
        "request": ("openai.responses.protocol", "ResponsesRequest"),
        "answer": ("openai.responses.protocol", "ResponsesResponse"),
    },
    "message": {
        "request": ("anthropic.protocol", "AnthropicMessagesRequest"),
        "answer": ("anthropic.protocol", "AnthropicMessagesResponse"),
        "events": ("anthropic.protocol", "AnthropicStreamEvent"),
    },
    "count_tokens": {
        "request": ("anthropic.protocol", "AnthropicCountTokensRequest"),
        "answer": ("anthropic.protocol", "AnthropicCountTokensResponse"),
    },
    "embedding": {
        "request": ("pooling.embed.protocol", "EmbeddingCompletionRequest", "EmbeddingChatRequest"),
        "answer": ("pooling.embed.protocol", "EmbeddingResponse"),
    },
    "embed_cohere": {
        "request": ("pooling.embed.protocol", "CohereEmbedRequest"),
        "answer": ("pooling.embed.protocol", "CohereEmbedResponse"),
    },
    "pooling": {
        "request": ("pooling.pooling.protocol", "PoolingCompletionRequest", "PoolingChatRequest"),
        "answer": ("pooling.pooling.protocol", "PoolingResponse"),
    },
    "classify": {
        "request": ("pooling.classify.protocol", "ClassificationCompletionRequest", "ClassificationChatRequest"),
        "answer": ("pooling.classify.protocol", "ClassificationResponse"),
    },
    "score": {
        "request": (
            "pooling.scoring.protocol", "ScoreTextRequest", "ScoreQueriesDocumentsRequest", "ScoreQueriesItemsRequest",
            "ScoreDataRequest",
        ),
        "answer": ("pooling.scoring.protocol", "ScoreResponse"),
    },
    "rerank": {
        "request": ("pooling.scoring.protocol", "RerankRequest"),
        "answer": ("pooling.scoring.protocol", "RerankResponse"),
    },
    "tokenize": {
        "request": ("serve.tokenize.protocol", "TokenizeCompletionRequest", "TokenizeChatRequest"),
        "answer": ("serve.tokenize.protocol", "TokenizeResponse"),
    },
    "detokenize": {
        "request": ("serve.tokenize.protocol", "DetokenizeRequest"),
        "answer": ("serve.tokenize.protocol", "DetokenizeResponse"),
    },
    "generative_scoring": {
        "request": ("generate.generative_scoring.serving", "GenerativeScoringRequest"),
        "answer": ("generate.generative_scoring.serving", "GenerativeScoringResponse"),
    },
    "transcription": {
        "request": ("speech_to_text.transcription.protocol", "TranscriptionRequest"),
        "answer": ("speech_to_text.transcription.protocol", "TranscriptionResponse", "TranscriptionResponseVerbose"),
        "events": ("speech_to_text.transcription.protocol", "TranscriptionStreamResponse"),
    },
    "translation": {
        "request": ("speech_to_text.translation.protocol", "TranslationRequest"),
        "answer": ("speech_to_text.translation.protocol", "TranslationResponse", "TranslationResponseVerbose"),
        "events": ("speech_to_text.translation.protocol", "TranslationStreamResponse"),
    },
}  # fmt: skip


def _inputs() -> Iterator[tuple[tuple[str, str], Any, TypeAdapter[Any]]]:
    for operation, places in _TYPES.items():
        for place, (module, *names) in places.items():
            types = importlib.import_module(_ENTRYPOINTS + module)
            yield (operation, place), "validation", TypeAdapter(reduce(or_, (getattr(types, name) for name in names)))


def _described(one: Any) -> dict[str, Any]:
    """The schema of one type; a type of vLLM's that pydantic cannot describe becomes anything."""
    from pydantic.json_schema import GenerateJsonSchema

    class Generator(GenerateJsonSchema):
        def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
            return {}

    found: dict[str, Any] = one.json_schema(schema_generator=Generator)
    return found


def main() -> int:
    """Write `vllm-VERSION.json`."""
    version = importlib.import_module("vllm").__version__.partition("+")[0]
    operations: dict[str, dict[str, Any]] = {}
    shared: dict[str, Any] = {}
    for (operation, place), _, adapter in _inputs():
        schema = _described(adapter)
        shared |= schema.pop("$defs", {})
        operations.setdefault(operation, {})[place] = schema
    document = discriminated(tidied({"source": f"vllm {version}", "operations": operations, "$defs": shared}))
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    (FOLDER / f"vllm-{version.rpartition('.')[0]}.json").write_text(text, encoding="utf-8")
    print(f"vllm {version}: {len(text)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
