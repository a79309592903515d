"""A remote prefill: what was planned for one request, and what came of it."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

from aibrix_extproc.core.fleet.model import Endpoint


class PrefillOutcome(StrEnum):
    """Who computed the prompt of a request for a model with prefill engines, and why."""

    __hash__ = str.__hash__

    REMOTE = "remote"
    SIDECAR = "sidecar"
    SHORT = "short"
    OVERFLOW = "overflow"
    NONE_READY = "none_ready"
    UNSUITED = "unsuited"
    OTHER_ENGINE = "other_engine"
    BUSY = "busy"
    REFUSED = "refused"
    NO_TRANSFER = "no_transfer"
    FAILED = "failed"


MEANINGS: Final[Mapping[PrefillOutcome, str]] = MappingProxyType(
    {
        PrefillOutcome.REMOTE: "a prefill engine computed the prompt, and the decode engine takes its KV cache over",
        PrefillOutcome.SIDECAR: "the decode engine's sidecar was told the prefill engine",
        PrefillOutcome.SHORT: "what the decode engine does not have of the prompt in its cache is short",
        PrefillOutcome.OVERFLOW: "the prefill engines are so busy that the decode engine does better to compute it",
        PrefillOutcome.NONE_READY: "no prefill engine of the decode engine's role set is ready",
        PrefillOutcome.UNSUITED: "the request cannot be split: several prompts or answers, logprobs of the prompt, "
        "transfer parameters of its own, or a body over 1 MiB",
        PrefillOutcome.OTHER_ENGINE: "the prefill engine is no vLLM, whose transfer alone the gateway knows",
        PrefillOutcome.BUSY: "as many prefills as are allowed run at once",
        PrefillOutcome.REFUSED: "the prefill engine refused the request (4xx), which the decode engine does as well",
        PrefillOutcome.NO_TRANSFER: "the prefill engine answered without kv_transfer_params: it has no KV connector",
        PrefillOutcome.FAILED: "the prefill engines failed or took too long",
    }
)
# What operators have to look at; the others are as it should be.
LACKS: Final = frozenset(
    {
        PrefillOutcome.NONE_READY,
        PrefillOutcome.OTHER_ENGINE,
        PrefillOutcome.BUSY,
        PrefillOutcome.NO_TRANSFER,
        PrefillOutcome.FAILED,
    }
)


PREFILL_REASONS: Final = ("timeout", "unreachable", "status", "invalid", "too_large", "refused")  # of failures


class Handover(msgspec.Struct, frozen=True, gc=False):
    """Which prefill engines may compute the prompt of a request, best first; none: `outcome` says why."""

    engines: tuple[Endpoint, ...] = ()
    outcome: PrefillOutcome = PrefillOutcome.REMOTE
    predicted_seconds: float | None = None  # until the first of them has computed the prompt
    predicted_cached_tokens: float | None = None  # that it has in its cache
    uncached_tokens: float = 0.0  # that the decode engine would have to compute


class Prefilled(msgspec.Struct, frozen=True, gc=False):
    """What came of it: who computed the prompt, and after how long."""

    outcome: PrefillOutcome
    engine: Endpoint | None = None  # that computed it
    seconds: float = 0.0  # that all attempts took
    failures: tuple[tuple[str, str], ...] = ()  # addresses of engines that failed before, and how
    cached_tokens: int | None = None  # that the prefill engine had in its cache, as it reported
