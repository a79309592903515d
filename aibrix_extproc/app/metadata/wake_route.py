"""Takes the demands of gateways: requests that wait for a sleeping model, or for a lazy adapter."""

import logging
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.ledger.demands import DemandLedger
from aibrix_extproc.adapters.ledger.errors import DatabaseError
from aibrix_extproc.adapters.openai_http.internal import InternalReply, InternalRoute
from aibrix_extproc.core.control.demands import WAKE_KIND, WAKE_PATH, WakeAnswer, decode_wake
from aibrix_extproc.core.control.rows import Section
from aibrix_extproc.core.operations.desired import DesiredAdapter
from aibrix_extproc.core.operations.policies import ModelPolicy

logger = logging.getLogger(__name__)

SHORTEST_SECONDS: Final = 1.0
_POLICY: Final = msgspec.json.Decoder(ModelPolicy)
_ADAPTER: Final = msgspec.json.Decoder(DesiredAdapter)


class WakeRoute:
    """One demand for a model, however many gateways and requests ask. `wake`: there is a demand."""

    def __init__(self, control: ControlLedger, demands: DemandLedger, wake: Callable[[], None]) -> None:
        self._control = control
        self._demands = demands
        self._wake = wake

    def routes(self) -> Mapping[str, InternalRoute]:
        """The route for gateways, by its path."""
        return {WAKE_PATH: InternalRoute(WAKE_KIND, self._take)}

    async def _take(self, _: str, content: bytes) -> InternalReply:
        try:
            models = decode_wake(content).models
        except ValueError as error:
            return InternalReply(str(error).encode(), 400)
        seconds: dict[str, float] = {}
        try:
            for model in models:
                if not await self._may_be_demanded(model):
                    continue
                demand = await self._demands.ask(model)
                if demand.took_seconds is not None:
                    left = demand.first_at + demand.took_seconds - demand.last_at
                    seconds[model] = max(left, SHORTEST_SECONDS)
        except (DatabaseError, OSError) as error:
            logger.warning("a demand was not stored", extra={"error": repr(error)[:300]})
            return InternalReply(b"the database does not answer", 503)
        self._wake()
        return InternalReply(msgspec.json.encode(WakeAnswer(seconds)))

    async def _may_be_demanded(self, model: str) -> bool:
        policy = await self._control.get(Section.MODELS, model)
        if policy is not None and policy.data is not None and _POLICY.decode(policy.data).wake_on_request:
            return True
        adapter = await self._control.get(Section.ADAPTERS, model)
        return adapter is not None and adapter.data is not None and _ADAPTER.decode(adapter.data).lazy
