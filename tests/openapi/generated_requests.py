"""Hooks of schemathesis: generated requests name models that there are, so that they reach an engine."""

from importlib import import_module
from typing import Any

schemathesis: Any = import_module("schemathesis")  # of the environment of the tools

MODELS = {
    "embedding": "vec", "embed_cohere": "vec", "pooling": "vec", "rerank": "rank", "rerank_root": "rank",
    "rerank_v2": "rank", "score": "rank", "score_root": "rank", "classify": "cls", "classify_v1": "cls",
    "transcription": "asr", "translation": "asr",
}  # fmt: skip
# A selector that matches no engine is a 503 on purpose: such an engine may be about to come. Two other keys in one
# request are another caller.
_LEFT_OUT = frozenset({"external-filter", "api-key", "x-api-key"})


def map_body(context: Any, body: Any) -> Any:
    """Name a model that does the operation."""
    if isinstance(body, dict) and isinstance(body.get("model"), str):
        body["model"] = MODELS.get(context.operation.definition.raw.get("operationId"), "chat")
    return body


def map_headers(context: Any, headers: Any) -> Any:
    """Leave out headers that are meant to change what happens."""
    return {name: value for name, value in (headers or {}).items() if name not in _LEFT_OUT}


for change in (map_body, map_headers):
    schemathesis.hook(change)
