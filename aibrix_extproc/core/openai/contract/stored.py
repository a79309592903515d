"""Tables of stored objects: purposes of files, and what may be asked in a batch."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

DAY_SECONDS: Final = 86_400
# What clients may store, and for how long if they do not say; None: until it is deleted.
PURPOSES: Final[Mapping[str, int | None]] = MappingProxyType(
    {
        "assistants": None,
        "batch": 30 * DAY_SECONDS,
        "evals": None,
        "fine-tune": None,
        "user_data": None,
        "vision": None,
    }
)
OUTPUT_PURPOSE: Final = "batch_output"
NOT_DOWNLOADED: Final = frozenset({"assistants"})  # OpenAI refuses the content of these
LISTED_PURPOSES: Final = frozenset({*PURPOSES, OUTPUT_PURPOSE, "assistants_output", "fine-tune-results"})
# What may be done in a batch, and the field of the body that every request needs.
BATCH_ENDPOINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "/v1/responses": "input",
        "/v1/chat/completions": "messages",
        "/v1/embeddings": "input",
        "/v1/completions": "prompt",
        "/v1/rerank": "documents",
        "/v1/score": "text_1",
        "/v1/classify": "input",
    }
)
# Ids of their operations.
BATCH_OPERATIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "/v1/responses": "response",
        "/v1/chat/completions": "chat_completion",
        "/v1/embeddings": "embedding",
        "/v1/completions": "completion",
        "/v1/rerank": "rerank",
        "/v1/score": "score",
        "/v1/classify": "classify_v1",
    }
)
