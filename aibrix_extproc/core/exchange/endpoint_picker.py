"""What differs when we run as an endpoint picker: defaults and headers of the Inference Extension's own picker."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.headers import ORIGINAL_PATHS

DROPPED_REASON: Final = "x-llm-d-request-dropped-reason"
DEFAULT_PATH: Final = "/v1/completions"
# Key of a refusal before placement -> the reason, in the terms of the Inference Extension.
REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "model_not_ready": "rejected-no-endpoints",
        "no_matching_engine": "rejected-no-endpoints",
        "no_healthy_upstream": "rejected-no-endpoints",
        "fleet_unknown": "rejected-no-endpoints",
        "rate_limited": "rejected-saturated",
        "overloaded": "rejected-saturated",
        "timeout": "rejected-ttl-expired",
        "decision_timeout": "rejected-ttl-expired",
        "keys_unknown": "rejected-internal",
        "internal_error": "rejected-internal",
    }
)


def assumed(headers: Mapping[str, str]) -> tuple[str, str]:
    """Method and path of a head; a gateway may leave both out, which means a completion."""
    path = headers.get(":path") or next(filter(None, map(headers.get, ORIGINAL_PATHS)), DEFAULT_PATH)
    return headers.get(":method") or "POST", path
