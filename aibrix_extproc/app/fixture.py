"""The endpoint picker that the conformance tests of the inference extension bring along, in place of an exchange.

Those tests judge a gateway. Their engines are echo servers, so nothing here looks at paths, bodies or models: each
request goes to an endpoint of the pool, to one that a request header names if there is one, and the answer says which
endpoint the gateway has reported. Never for production: clients choose addresses, and nobody is authenticated.
"""

import logging
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Final

from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.outputs import Continue, Immediate, Output, Phase
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.fleet.subset import subset_of
from aibrix_extproc.core.openai.contract.errors import Problem, shape
from aibrix_extproc.core.openai.contract.headers import TEST_SELECTION

logger = logging.getLogger(__name__)

SERVED: Final = "x-conformance-test-served-endpoint"
SELECTED: Final = "x-conformance-test-selected-endpoint"
ECHO: Final = "x-echo-set-header"  # an order to the echo server to set a header of its answer
NOT_SERVED: Final = "fail: missing destination endpoint served metadata"


class FixtureExchange:
    """Fits `adapters.extproc.interfaces.Machine`."""

    def __init__(
        self, policy: ExchangePolicy, endpoints: Callable[[], tuple[Endpoint, ...]], tick: Callable[[], int]
    ) -> None:
        self._policy = policy
        self._endpoints = endpoints
        self._tick = tick
        self._selected = ""
        self.answerable = True

    @property
    def policy(self) -> ExchangePolicy:
        """The bounds that it obeys."""
        return self._policy

    def receive(self, event: events.Event) -> tuple[Output, ...]:
        """What follows from an event; nothing is out of order here."""
        match event:
            case events.RequestHead():
                return (self._placed(event),)
            case events.ResponseHead():
                self.answerable = False
                found = ((SERVED, event.served or NOT_SERVED), (SELECTED, self._selected))
                return (Continue(Phase.RESPONSE_HEAD, set_headers=tuple(pair for pair in found if pair[1])),)
            case events.RequestBody():
                return (Continue(Phase.REQUEST_BODY),)
            case events.RequestTrailers():
                return (Continue(Phase.REQUEST_TRAILERS),)
            case events.ResponseBody():
                return (Continue(Phase.RESPONSE_BODY),)
            case events.ResponseTrailers():
                return (Continue(Phase.RESPONSE_TRAILERS),)
            case _:
                return ()

    def internal_error(self) -> tuple[Output, ...]:
        """The final answer after a bug of ours."""
        return (self._refused("internal_error"),) if self.answerable else ()

    def _placed(self, event: events.RequestHead) -> Continue | Immediate:
        found = [one for one in self._endpoints() if one.address]
        asked = event.headers.get(TEST_SELECTION)
        for subset in (event.subset, subset_of([asked]) if asked else None):
            if subset is not None:
                found = [one for one in found if subset.has(one.address)]
        if not found:
            return self._refused("no_healthy_upstream")
        self._selected = found[self._tick() % len(found)].address
        return Continue(
            Phase.REQUEST_HEAD, set_headers=((ECHO, f"{SERVED}:{self._selected}"),), destination=self._selected
        )

    def _refused(self, key: str) -> Immediate:
        self.answerable = False
        shaped = shape(Problem(key, {"request_id": "conformance"}))
        return Immediate(shaped.status, shaped.headers, shaped.body, f"ext_proc_{key}")


def fixtures(policy: ExchangePolicy, endpoints: Callable[[], tuple[Endpoint, ...]]) -> Callable[[], FixtureExchange]:
    """Makes a fixture for each stream; they take the endpoints in turn."""
    logger.warning("test mode: clients are let in unasked and choose endpoints; this is for conformance tests only")
    return partial(FixtureExchange, policy, endpoints, count().__next__)
