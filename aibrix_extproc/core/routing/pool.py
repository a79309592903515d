"""The endpoints among which a scorer decides."""

import msgspec

from aibrix_extproc.core.fleet.model import Endpoint


class PrefillPool(msgspec.Struct, frozen=True, gc=False):
    """Engines that compute prompts for those of a pool. `key` is as that of a pool."""

    endpoints: tuple[Endpoint, ...]
    key: str = ""
    most_local_tokens: float = 0.0  # an engine that lacks at most so many tokens of a prompt computes them itself


class Pool(msgspec.Struct, frozen=True, gc=False):
    """Endpoints that may take a request, in the order of their identities; never empty.

    `key` names a pool that comes again with the next request: the model whose ready endpoints these are. What a scorer
    remembers of it follows the changes of the endpoints. It is empty for a selection that was made for one request.
    """

    endpoints: tuple[Endpoint, ...]
    key: str = ""
    prefill: PrefillPool | None = None  # None: each computes its prompts itself
