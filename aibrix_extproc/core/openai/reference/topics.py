"""What operations are about: the tags of openapi.json, by which explorers and generators of clients group them."""

from dataclasses import dataclass
from typing import Final

from aibrix_extproc.core.openai.contract.operations import Operation, Role


@dataclass(frozen=True, slots=True)
class Topic:
    """A group of operations and the beginnings of their paths."""

    name: str
    meaning: str
    paths: tuple[str, ...]


TOPICS: Final = (
    Topic(
        "generation", "Texts that a model writes.",
        ("/v1/chat/", "/v1/completions", "/v1/responses", "/v1/messages", "/generative_scoring"),
    ),
    Topic(
        "vectors", "Embeddings, scores, ranks and classes of texts.",
        ("/v1/embeddings", "/v2/", "/v1/rerank", "/rerank", "/v1/score", "/score", "/v1/classify", "/classify",
         "/pooling"),
    ),
    Topic("audio", "Texts of recordings.", ("/v1/audio/",)),
    Topic("tokens", "Prompts as token ids, and back.", ("/tokenize", "/detokenize")),
    Topic("models", "What models there are.", ("/v1/models",)),
    Topic("files", "Files that batches read and write, and uploads of large ones.", ("/v1/files", "/v1/uploads")),
    Topic("batches", "Many requests as one file, answered when engines are free.", ("/v1/batches",)),
    Topic(
        "interfaces", "What this API can do, for programs.",
        ("/v1/interfaces", "/v1/openapi.json", "/admin/v1/version"),
    ),
    Topic("usage", "What was used, and what it cost.", ("/v1/usage", "/v1/organization/")),
    Topic(
        "access", "Callers, their keys and limits, and what was changed.",
        ("/admin/v1/callers", "/admin/v1/keys", "/admin/v1/limits", "/admin/v1/audit"),
    ),
)  # fmt: skip
ENGINES: Final = Topic("engines", "Operations over engines, for operators.", ())  # all else that is not for users


def topic_of(row: Operation) -> Topic:
    """The topic of an operation; raises LookupError for one of users that none names."""
    found = next((one for one in TOPICS if row.path.startswith(one.paths)), None)
    if found is None and row.role is Role.USER:
        raise LookupError(row.path)
    return found or ENGINES
