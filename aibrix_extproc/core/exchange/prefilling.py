"""A placed request while a prefill engine computes its prompt."""

import msgspec

from aibrix_extproc.core.exchange.asks import Placed, PrefillDone
from aibrix_extproc.core.exchange.outputs import Forwarded
from aibrix_extproc.core.openai.wire.prefill import Split
from aibrix_extproc.core.openai.wire.splice import Edit
from aibrix_extproc.core.placing import RouteQuery


class Prefilling(msgspec.Struct, frozen=True, gc=False):
    """What is kept of it. `split` is None if no prefill engine gets anything of it."""

    placed: Placed
    query: RouteQuery
    split: Split | None

    def transfer(self, done: PrefillDone) -> tuple[Edit, ...]:
        """The changes that tell the engine that answers where the KV cache is; none if it computes the prompt."""
        return (self.split.with_transfer(done.transfer),) if self.split is not None and done.transfer else ()

    def forwarded(self, request_id: str, transfer: tuple[Edit, ...]) -> Forwarded:
        """The fact that the exchange goes to its endpoint now, with these changes."""
        return Forwarded(self.placed.placement.first.identity, request_id, self.query, bool(transfer))
