"""Purposes of stored files."""

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
