"""The endpoints among which a scorer decides."""

import msgspec

from aibrix_extproc.core.fleet.model import Endpoint


class Pool(msgspec.Struct, frozen=True, gc=False):
    """Endpoints that may take a request, in the order of their identities; never empty.

    `key` names a pool that comes again with the next request: the model whose ready endpoints these are. What a scorer
    remembers of it follows the changes of the endpoints. It is empty for a selection that was made for one request.
    """

    endpoints: tuple[Endpoint, ...]
    key: str = ""
