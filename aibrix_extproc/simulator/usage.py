"""The usage object of OpenAI's older APIs, in its two forms."""

from typing import Any

from aibrix_extproc.simulator.engine import Job, Ticket


def whole_usage(job: Job, ticket: Ticket, detailed: bool, created_cache_tokens: int | None = 0) -> dict[str, Any]:
    """The usage of an answer that does not stream: absent details are null."""
    generated = sum(job.lengths)
    details = {
        "cached_tokens": ticket.cached_tokens,
        "created_cache_tokens": created_cache_tokens,
        "multimodal_tokens": None,
    }
    return {
        "prompt_tokens": job.prompt_tokens,
        "total_tokens": job.prompt_tokens + generated,
        "completion_tokens": generated,
        "prompt_tokens_details": details if detailed else None,
        "completion_tokens_details": None,
    }


def stream_usage(job: Job, ticket: Ticket, detailed: bool, position: int) -> dict[str, Any]:
    """The usage chunk of a stream that came to `position`: absent details are left out."""
    generated = sum(min(position, length) for length in job.lengths)
    usage: dict[str, Any] = {
        "prompt_tokens": job.prompt_tokens,
        "total_tokens": job.prompt_tokens + generated,
        "completion_tokens": generated,
    }
    if detailed:
        usage["prompt_tokens_details"] = {"cached_tokens": ticket.cached_tokens, "created_cache_tokens": 0}
    return usage
