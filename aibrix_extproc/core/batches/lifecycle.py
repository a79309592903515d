"""The life of a batch, as a table.

validating -> in_progress -> finalizing -> completed; a batch that fails validation never runs, and one that runs
fails only if its content is lost. Cancelling and expiry
end a batch that runs; both keep the results that are there.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class BatchStatus(StrEnum):
    """States, in the API's own words."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


_S = BatchStatus
TRANSITIONS: Final[Mapping[BatchStatus, frozenset[BatchStatus]]] = MappingProxyType(
    {
        _S.VALIDATING: frozenset({_S.FAILED, _S.IN_PROGRESS, _S.CANCELLING}),
        _S.IN_PROGRESS: frozenset({_S.FINALIZING, _S.CANCELLING, _S.FAILED}),
        _S.FINALIZING: frozenset({_S.COMPLETED, _S.EXPIRED, _S.CANCELLING, _S.FAILED}),
        _S.CANCELLING: frozenset({_S.CANCELLED}),
        _S.FAILED: frozenset(),
        _S.COMPLETED: frozenset(),
        _S.EXPIRED: frozenset(),
        _S.CANCELLED: frozenset(),
    }
)
TERMINAL: Final = frozenset(status for status, following in TRANSITIONS.items() if not following)
# The time of each state, stamped once when the batch comes there.
STAMPS: Final[Mapping[BatchStatus, str]] = MappingProxyType(
    {status: f"{status.value}_at" for status in BatchStatus if status is not BatchStatus.VALIDATING}
)


def sources_of(following: BatchStatus) -> tuple[BatchStatus, ...]:
    """The states from which a batch may come to this one, for conditional updates."""
    return tuple(status for status, after in TRANSITIONS.items() if following in after)
