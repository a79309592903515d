"""How urgent a request is: by its key, never by what a client says of itself."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.placing import Caller

LABEL: Final = "class"  # of a caller or a key


class RequestClass(StrEnum):
    """Interactive requests get more of a full engine than default ones; batch ones get what both leave idle."""

    __hash__ = str.__hash__

    INTERACTIVE = "interactive"
    DEFAULT = "default"
    BATCH = "batch"


# Shares of saturated engines; batch requests have none.
WEIGHTS: Final[Mapping[RequestClass, float]] = MappingProxyType(
    {RequestClass.INTERACTIVE: 4.0, RequestClass.DEFAULT: 1.0, RequestClass.BATCH: 1.0}
)
# For engines that order their own queues: the lowest first, as vLLM does with `--scheduling-policy priority`.
PRIORITIES: Final[Mapping[RequestClass, int]] = MappingProxyType(
    {RequestClass.INTERACTIVE: -1, RequestClass.DEFAULT: 0, RequestClass.BATCH: 1}
)
_NAMED: Final = {one.value: one for one in RequestClass}


def class_of(caller: Caller, *, batch: bool) -> RequestClass:
    """`batch`: the request is a line of a batch, as its worker has signed. Labels that name no class are default."""
    if batch:
        return RequestClass.BATCH
    return _NAMED.get(caller.labels.get(LABEL, ""), RequestClass.DEFAULT)
