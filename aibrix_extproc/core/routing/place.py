"""The way from a request to its endpoints: eligible, then a plan, then a ranking, then the first few of it.

Nothing here waits or reads a clock by itself; the fleet, the counts, the clock and chance are handed in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec.structs import replace

from aibrix_extproc.core.fleet.model import Endpoint, Snapshot
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.placing import ATTEMPTS, Placement, RouteQuery
from aibrix_extproc.core.routing.choose import Chooser, Choosers
from aibrix_extproc.core.routing.disaggregation.choose import handover
from aibrix_extproc.core.routing.disaggregation.handover import Handover
from aibrix_extproc.core.routing.eligible import eligible, not_ready, with_one_key
from aibrix_extproc.core.routing.mix import parse_mix
from aibrix_extproc.core.routing.owners import ResponseOwners
from aibrix_extproc.core.routing.plan import Plan, plan_of
from aibrix_extproc.core.routing.pool import Pool, PrefillPool
from aibrix_extproc.core.routing.ramps import Ramps
from aibrix_extproc.core.routing.record import Detail, Reason, Trail
from aibrix_extproc.core.routing.request import Place
from aibrix_extproc.core.routing.scorers.pd import SPEC as PD_SPEC
from aibrix_extproc.core.routing.scorers.predicted import SPEC as PREDICTED_SPEC
from aibrix_extproc.core.routing.signals import Need, SignalSources
from aibrix_extproc.core.routing.versions import WeightVersions

PREDICTED: Final = PREDICTED_SPEC.name
PREFILL_KEY: Final = "prefill\0"  # before the model in the key of its pool of prefill engines
_PD: Final = parse_mix(PD_SPEC.name)


@dataclass(frozen=True, slots=True)
class Ranking:
    """How placements are made: the strategy when nobody names one, and how many candidates there are at most.

    `strategy` may be a combination; one that cannot be read raises InvalidMix.
    """

    strategy: str
    candidates: int = ATTEMPTS
    most_local_tokens: int = 0  # of a prompt, that a decode engine computes itself where there are prefill engines


class Decision(msgspec.Struct, frozen=True, gc=False):
    """Where a request may go, and what its client is told with the answer."""

    placement: Placement
    answer_headers: tuple[tuple[str, str], ...] = ()
    response_id: str | None = None  # the id that the engine shall give to the response, if the operation makes one
    trail: Trail | None = None  # how the placement came about, where that is wanted
    handover: Handover | None = None  # who computes the prompt; None: the model has no prefill engines


class _Look(msgspec.Struct, frozen=True, gc=False):
    """How much of the way is kept, and what is known of it."""

    detail: Detail
    dry: bool = False
    reason: Reason = Reason.SETTING


_UNSEEN: Final = _Look(Detail.NONE)


class Placer:
    """Places requests. `wall_clock`: seconds since the epoch, for the ids of responses."""

    def __init__(
        self,
        sources: SignalSources,
        owners: ResponseOwners,
        ranking: Ranking,
        wall_clock: Callable[[], float],
        ramps: Ramps | None = None,
    ) -> None:
        self._draw = sources.draw
        self._owners = owners
        self._mix = parse_mix(ranking.strategy)
        self._limit = ranking.candidates
        self._choosers = Choosers(sources)
        self._default = self._choosers.of(self._mix)
        self._keeps_sessions = Need.SESSION in self._mix.needs
        self._wall_clock = wall_clock
        self._sources = sources
        self._ranking = ranking
        self._ramps = ramps
        self._versions = WeightVersions()

    def place(
        self, request: Place, fleet: Snapshot, detail: Detail = Detail.NONE, *, dry: bool = False
    ) -> Decision | Problem:
        """The endpoints for a request, best first, or why there is none; with as much of its trail as is wanted.

        `dry`: nothing will be placed.
        """
        decision = self._decided(request, fleet, _Look(detail, dry=dry) if detail else _UNSEEN)
        if dry or not request.operation.makes_response or not isinstance(decision, Decision):
            return decision
        made = self._owners.issue(request.caller.name, decision.placement, self._wall_clock(), self._draw())
        return replace(decision, response_id=made)

    def _decided(self, request: Place, fleet: Snapshot, look: _Look) -> Decision | Problem:
        if not fleet.known:
            return Problem("fleet_unknown")
        if request.stored_response is not None:
            return self._with_response(request, request.stored_response, fleet, look)
        query = request.query
        ready = eligible(request, fleet, query.model)
        if isinstance(ready, Problem):
            return ready
        config = fleet.configs.get(query.model)
        if request.headers is None and config is None and not self._keeps_sessions:
            pool = self._pool(request, ready, fleet)
            return self._pick(self._default, query, pool, look)  # nearly all requests
        plan = plan_of(request.headers, config, self._mix, self._draw())
        if isinstance(plan, Problem):
            return plan
        if plan.selector:
            ready = plan.allowed(ready)
            if not ready:
                return _none_selected(plan, fleet, query.model)
        if plan.session:
            query = replace(query, session=plan.session)
            ready = self._versions.of_session(plan.session, query.model, fleet.by_model[query.model], ready)
        chooser = self._choosers.of(plan.mix)
        look = look if look.detail is Detail.NONE else replace(look, reason=plan.reason)
        return self._pick(chooser, query, self._pool(request, ready, fleet), look, plan.answer_headers)

    def _with_response(self, request: Place, response_id: str, fleet: Snapshot, look: _Look) -> Decision | Problem:
        """The endpoint that holds a stored response. What the client says of others does not count."""
        owner = self._owners.find(response_id, request.caller.name, self._wall_clock())
        holder = owner.holder(fleet.endpoints) if owner is not None else None
        if owner is None or holder is None:
            return _unknown_response(request, response_id)
        # Where the path names no model, the response does.
        model = request.query.model or owner.model(one.id for one in holder.models)
        if model is None:
            return _unknown_response(request, response_id)
        ready = eligible(request, fleet, model)
        if isinstance(ready, Problem):
            return ready
        if all(one.id != model for one in holder.models):
            return _unknown_response(request, response_id)  # the engines of this model have another memory
        ready = tuple(one for one in ready if one.identity == holder.identity)
        if not ready:
            return not_ready(model)
        query, look = replace(request.query, model=model), replace(look, reason=Reason.STORED)
        return self._pick(self._default, query, Pool(ready), look)

    def _pick(
        self,
        chooser: Chooser,
        query: RouteQuery,
        pool: Pool,
        look: _Look,
        answer_headers: tuple[tuple[str, str], ...] = (),
    ) -> Decision:
        trail = None
        if pool.prefill is not None:
            self._sources.require(PD_SPEC.needs)
            if chooser.label == PREDICTED:
                chooser = self._choosers.of(_PD)
        if look.detail is Detail.NONE:
            placement = chooser.choose(query, pool, self._limit)
        else:
            placement, trail = chooser.traced(query, pool, self._limit, look.detail, look.reason, dry=look.dry)
        if self._ramps and not query.session:
            placement = self._ramps.spread(placement)
        if pool.prefill is not None:
            return self._handed_over(Decision(placement, answer_headers, trail=trail), query, pool.prefill)
        return Decision(with_one_key(placement), answer_headers, trail=trail)

    def _handed_over(self, decision: Decision, query: RouteQuery, prefill: PrefillPool) -> Decision:
        """The decision with the prefill engine for its decode engine."""
        sources, placement = self._sources, decision.placement
        load = sources.load.in_flight(placement.first.identity)
        found = handover(query, placement.first, prefill, sources.predictor, sources.clock(), load)
        return replace(decision, placement=with_one_key(placement), handover=found)

    def _pool(self, request: Place, ready: tuple[Endpoint, ...], fleet: Snapshot) -> Pool:
        """With a key if these are all ready endpoints of the model, so that what is remembered of them counts."""
        model = request.query.model
        key = model if ready is fleet.ready_by_model[model] else ""
        return Pool(ready, key, self._prefill_pool(request, fleet, model) if fleet.prefill_by_model else None)

    def _prefill_pool(self, request: Place, fleet: Snapshot, model: str) -> PrefillPool | None:
        """None for a model without prefill engines, and for an operation whose prompt they cannot compute."""
        engines, key = fleet.prefill_by_model.get(model), f"{PREFILL_KEY}{model}"
        if engines is None or not request.operation.answer_limits:
            return None
        subset = request.subset
        if subset is not None:
            engines, key = tuple(one for one in engines if subset.has(one.address)), ""
        return PrefillPool(engines, key, self._ranking.most_local_tokens)


def _none_selected(plan: Plan, fleet: Snapshot, model: str) -> Problem:
    """`model_not_ready` if an endpoint matches the selector and is not ready, `no_matching_engine` if none matches."""
    if plan.allowed(fleet.by_model[model]):
        return not_ready(model)
    return Problem("no_matching_engine", {"model": shown(model)})


def _unknown_response(request: Place, response_id: str) -> Problem:
    name = shown(response_id, 128)
    if request.query.model:
        return Problem("previous_response_not_found", {"response_id": name})
    return Problem("not_found", {"message": f"Response with id '{name}' not found."}, param="response_id")
