"""A batch as a value, and its JSON object."""

import json
from dataclasses import dataclass
from typing import Final

from aibrix_extproc.core.batches.lifecycle import BatchStatus

WINDOW: Final = "24h"
WINDOW_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a batch's answers."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch. Times are whole seconds since the epoch; None: not there yet."""

    id: str
    caller: str
    endpoint: str
    input_file_id: str
    completion_window: str
    status: BatchStatus
    created_at: int
    expires_at: int
    model: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    metadata: str | None = None  # JSON
    errors: str | None = None  # JSON list
    output_expires_after: int | None = None  # seconds from the output file's creation
    output_file_id: str | None = None
    error_file_id: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


_TIMES: Final = (
    "in_progress_at", "expires_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at",
    "cancelled_at",
)  # fmt: skip


def batch_object(record: BatchRecord) -> dict[str, object]:
    """OpenAI's batch object."""
    errors = None if record.errors is None else {"object": "list", "data": json.loads(record.errors)}
    return {
        "id": record.id,
        "object": "batch",
        "endpoint": record.endpoint,
        "model": record.model,
        "errors": errors,
        "input_file_id": record.input_file_id,
        "completion_window": record.completion_window,
        "status": record.status.value,
        "output_file_id": record.output_file_id,
        "error_file_id": record.error_file_id,
        "created_at": record.created_at,
        **{name: getattr(record, name) for name in _TIMES},
        "request_counts": {"total": record.total, "completed": record.completed, "failed": record.failed},
        "metadata": None if record.metadata is None else json.loads(record.metadata),
        "usage": {
            "input_tokens": record.input_tokens,
            "input_tokens_details": {"cached_tokens": record.cached_tokens},
            "output_tokens": record.output_tokens,
            "output_tokens_details": {"reasoning_tokens": record.reasoning_tokens},
            "total_tokens": record.input_tokens + record.output_tokens,
        },
    }
