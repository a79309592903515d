"""Why a request went where it went: what its placement was made of, and what came of it.

No text of a prompt and no key is in a record.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import Final

import msgspec

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.routing.disaggregation.handover import Handover, Prefilled

# Names of what scorers explain that are compared with what came of it.
PREDICTED_TTFT: Final = "predicted_ttft_seconds"
PREDICTED_CACHED: Final = "predicted_cached_tokens"

IN_FLIGHT: Final = "in_flight"

MAX_VALUED: Final = 1024  # endpoints whose values are kept; of a larger pool only those of the candidates


class Detail(IntEnum):
    """How much of a placement is kept."""

    NONE = 0
    AT_HAND = 1  # what the choice has computed anyway
    FULL = 2  # also the scores that it could do without


class Reason(StrEnum):
    """Who named the strategy."""

    __hash__ = str.__hash__

    SETTING = "setting"
    HEADER = "header"
    PROFILE = "profile"
    LOCKED = "locked"  # by the model's configuration, whatever a client says
    STORED = "stored"  # there was no choice: one endpoint holds the stored response


class Part(msgspec.Struct, frozen=True, gc=False):
    """What one strategy of the mix said: a number in [0, 1] for each of the trail's endpoints, the highest is best."""

    strategy: str
    weight: int
    scores: Sequence[float]


class Trail(msgspec.Struct, frozen=True, gc=False):
    """How a ranking came about. `best` over the weighted mean of the parts gives its first endpoint again."""

    eligible: int  # endpoints that could take the request
    tick: int  # decides between equals; -1 if nothing needed it
    endpoints: tuple[Endpoint, ...] = ()  # that the scores and details are of
    parts: tuple[Part, ...] = ()
    numbers: tuple[tuple[str, Sequence[float]], ...] = ()  # behind the scores, by name; tuples, as thousands are kept
    reason: Reason = Reason.SETTING

    @property
    def details(self) -> Mapping[str, Sequence[float]]:
        """The numbers behind the scores, by name."""
        return dict(self.numbers)

    def value(self, name: str, identity: str) -> float | None:
        """A detail of one endpoint; None if it is not known."""
        values = self.details.get(name)
        if values is None:
            return None
        return next(
            (value for one, value in zip(self.endpoints, values, strict=True) if one.identity == identity), None
        )


class DecisionRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One placement, and what came of it. Times are in seconds; None: not known, or not yet."""

    request_id: str
    wall_at: float  # seconds since the epoch
    model: str
    strategy: str
    candidates: tuple[Endpoint, ...]  # best first, as Envoy got them
    degraded: tuple[tuple[str, str], ...] = ()  # strategies, and why each could not do all that it promises
    trail: Trail
    queue_seconds: float = 0.0  # that the request waited before it was placed
    served_by: str = ""  # identity
    status: int = 0
    outcome: str = ""  # empty while it runs
    head_seconds: float | None = None  # from placement to the head of the answer
    ttft_seconds: float | None = None  # from placement to the first token
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    handover: Handover | None = None  # None: the model has no prefill engines
    prefilled: Prefilled | None = None

    @property
    def predicted_ttft_seconds(self) -> float | None:
        """Of the endpoint that served, else of the first candidate; None if the strategy predicts none."""
        return self.trail.value(PREDICTED_TTFT, self.served_by or self.candidates[0].identity)

    @property
    def predicted_cached_tokens(self) -> float | None:
        """The same for tokens of the prompt that the engine has in its cache."""
        return self.trail.value(PREDICTED_CACHED, self.served_by or self.candidates[0].identity)
