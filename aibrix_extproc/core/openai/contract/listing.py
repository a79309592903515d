"""The model objects that OpenAI's list and retrieve return."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

# vLLM says "now" on every call and knows no better; one constant is stable over calls, replicas and restarts.
CREATED: Final = 1_700_000_000
OWNER: Final = "vllm"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model as clients see it. `parent` (of a LoRA adapter) and `max_model_len` are extensions."""

    id: str
    parent: str | None = None
    max_model_len: int | None = None


def model_object(card: ModelCard) -> dict[str, object]:
    """OpenAI's model object, without the engine's local paths and permissions."""
    found: dict[str, object] = {"id": card.id, "object": "model", "created": CREATED, "owned_by": OWNER}
    if card.parent is not None:
        found["parent"] = card.parent
    if card.max_model_len is not None:
        found["max_model_len"] = card.max_model_len
    return found


def model_list(cards: Iterable[ModelCard]) -> bytes:
    """Body of GET /v1/models."""
    return _json({"object": "list", "data": [model_object(card) for card in cards]})


def one_model(card: ModelCard) -> bytes:
    """Body of GET /v1/models/{id}."""
    return _json(model_object(card))


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
