"""Values out of range, in vLLM's words: of fields that a simulated answer does not depend on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aibrix_extproc.simulator.errors import bad_request

_MOST_SEQUENCES: Final = 16_384
_MOST_LOGPROBS: Final = 20
_MOST_STOPS: Final = 4
_CONSTRAINTS: Final = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")


@dataclass(frozen=True, slots=True)
class Range:
    """What a value must be; `{}` in the message is the value."""

    name: str
    fits: Callable[[Any], bool]
    message: str


RANGES: Final = (
    Range("min_p", lambda value: 0 <= value <= 1, "min_p must be in [0, 1], got {}."),
    Range("repetition_penalty", lambda value: value > 0, "repetition_penalty must be greater than zero, got {}."),
    Range("presence_penalty", lambda value: -2 <= value <= 2, "presence_penalty must be in [-2, 2], got {}."),
    Range("frequency_penalty", lambda value: -2 <= value <= 2, "frequency_penalty must be in [-2, 2], got {}."),
    Range("top_k", lambda value: value >= -1, "top_k must be 0 (disable), or at least 1, got {}."),
    Range("n", lambda value: value <= _MOST_SEQUENCES, f"n must be at most {_MOST_SEQUENCES}, got {{}}."),
    Range("min_tokens", lambda value: value >= 0, "min_tokens must be greater than or equal to 0, got {}."),
    Range("stop", lambda value: "" not in ([value] if isinstance(value, str) else value),
          "stop cannot contain an empty string."),
    Range("stop", lambda value: isinstance(value, str) or len(value) <= _MOST_STOPS,
          f"stop must have at most {_MOST_STOPS} strings, got {{}}."),
    Range("cache_salt", bool, "Parameter 'cache_salt' must be a non-empty string if provided."),
    Range("structured_outputs", lambda value: sum(bool(value.get(name)) for name in _CONSTRAINTS) == 1,
          "You must use exactly one kind of structured outputs constraint, got {}."),
    Range("bad_words", lambda value: "" not in value, "bad_words cannot contain an empty string."),
    Range("allowed_token_ids", bool, "allowed_token_ids is not None and empty!"),
    Range("prompt_logprobs", lambda value: 0 <= value <= _MOST_LOGPROBS,
          "`prompt_logprobs` must be a positive value or 0, got {}."),
    Range("top_logprobs", lambda value: 0 <= value <= _MOST_LOGPROBS, "top_logprobs must be in [0, 20], got {}."),
    Range("truncate_prompt_tokens", lambda value: value != 0, "truncate_prompt_tokens leaves nothing of the prompt."),
    Range("logit_bias", lambda value: all(key.lstrip("-").isdigit() for key in value),
          "logit_bias contains key(s) that cannot be converted to int: {}."),
    Range("thinking_token_budget", lambda value: value is None,
          "thinking_token_budget is set but reasoning_config is not configured."),
)  # fmt: skip


def check_ranges(given: Mapping[str, Any]) -> None:
    """Refuse the first value that is out of its range."""
    for rule in RANGES:
        value = given.get(rule.name)
        if value is not None and not rule.fits(value):
            raise bad_request(rule.message.format(value), None)
