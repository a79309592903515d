"""Which decode engine answers, which prefill engine computes the prompt, and when none does."""

import pytest
from msgspec.structs import replace

from aibrix_extproc.core.exchange.asks import Place
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint, Health
from aibrix_extproc.core.fleet.roles import EngineRole
from aibrix_extproc.core.openai.wire.prefix import PrefixChain
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.placing import RouteQuery, RoutingHeaders
from aibrix_extproc.core.routing.disaggregation.handover import Handover, PrefillOutcome
from aibrix_extproc.core.routing.owners import ResponseOwners
from aibrix_extproc.core.routing.place import Decision, Placer, Ranking
from aibrix_extproc.core.routing.record import Detail
from aibrix_extproc.core.routing.signals import SignalSources
from tests.build import CALLER, MODEL, a_snapshot, an_endpoint, an_operation

P, D, B = EngineRole.PREFILL, EngineRole.DECODE, EngineRole.BOTH
LOCAL_TOKENS = 256


class Fleet:
    """Engines by role and role set, and what places requests among them."""

    def __init__(self, *engines: tuple[EngineRole, str], strategy: str = "predicted") -> None:
        self.endpoints = [an_endpoint(n, role=role, role_set=name) for n, (role, name) in enumerate(engines, 1)]
        self.load = LoadBook()
        self.sources = SignalSources(self.load, lambda: 0.5, lambda: 100.0)
        owners = ResponseOwners([b"secret"])
        ranking = Ranking(strategy, most_local_tokens=LOCAL_TOKENS)
        self.placer = Placer(self.sources, owners, ranking, lambda: 1.0)

    @property
    def predictor(self):  # type: ignore[no-untyped-def]
        return self.sources.predictor

    def place(
        self, tokens: int = 4000, *, prefix: PrefixChain | None = None, operation: str = "chat_completion",
        strategy: str | None = None,
    ) -> Decision:  # fmt: skip
        query = RouteQuery(MODEL, body_bytes=tokens * 4, prefix=prefix)
        headers = None if strategy is None else RoutingHeaders(strategy=strategy)
        ask = Place(an_operation(operation), query, headers, CALLER)
        decision = self.placer.place(ask, a_snapshot(*self.endpoints), Detail.AT_HAND)
        assert isinstance(decision, Decision)
        return decision


def chain(tokens: int, name: int = 1) -> PrefixChain:
    ends = tuple(range(2048, tokens * 4 + 1, 2048))
    return PrefixChain(tuple(name * 1000 + place for place in range(len(ends))), ends)


def numbers(endpoints: tuple[Endpoint, ...]) -> list[str]:
    return [one.identity[-1] for one in endpoints]


def handover(decision: Decision) -> Handover:
    assert decision.handover is not None
    return decision.handover


def test_fleets_without_prefill_engines_have_no_handover() -> None:
    decision = Fleet((B, ""), (D, "")).place()
    assert decision.handover is None
    assert decision.placement.strategy == "predicted"


def test_a_long_prompt_is_computed_by_a_prefill_engine_of_the_role_set() -> None:
    fleet = Fleet((P, "a"), (P, "b"), (D, "b"), (P, "b"))
    decision = fleet.place()
    assert numbers(decision.placement.candidates) == ["3"]
    found = handover(decision)
    assert (found.outcome, set(numbers(found.engines))) == (PrefillOutcome.REMOTE, {"2", "4"})
    assert found.uncached_tokens == pytest.approx(4000)
    assert decision.placement.strategy == "pd"


@pytest.mark.parametrize(("tokens", "outcome"), [(LOCAL_TOKENS, "short"), (LOCAL_TOKENS + 1, "remote")])
def test_a_short_prompt_is_computed_where_it_is_answered(tokens: int, outcome: str) -> None:
    assert handover(Fleet((P, ""), (D, "")).place(tokens)).outcome.value == outcome


def test_a_prompt_that_a_decode_engine_has_in_its_cache_goes_there_alone() -> None:
    fleet = Fleet((P, ""), (D, ""), (D, ""))
    prefix = chain(4096)
    fleet.predictor.placed("r", RouteQuery(MODEL, body_bytes=4096 * 4, prefix=prefix), "engine-3", 99.0)
    fleet.predictor.finished("r", 99.5)
    decision = fleet.place(4100, prefix=prefix)
    assert numbers(decision.placement.candidates)[0] == "3"
    assert handover(decision).outcome is PrefillOutcome.SHORT


def test_the_prefill_engine_that_has_the_prompt_in_its_cache_is_first() -> None:
    fleet = Fleet((P, ""), (P, ""), (P, ""), (D, ""))
    prefix = chain(4096)
    fleet.predictor.placed("r", RouteQuery(MODEL, body_bytes=4096 * 4, prefix=prefix), "engine-2", 90.0)
    fleet.predictor.finished("r", 91.0)
    found = handover(fleet.place(8000, prefix=replace(prefix, hashes=(*prefix.hashes, 7), ends=(*prefix.ends, 32000))))
    assert numbers(found.engines)[0] == "2"
    assert found.predicted_cached_tokens == pytest.approx(4096)


def test_decode_engines_are_chosen_by_the_requests_that_they_answer() -> None:
    fleet = Fleet((P, ""), (D, ""), (D, ""), (D, ""))
    for identity, count in (("engine-2", 3), ("engine-3", 1), ("engine-4", 2)):
        for _ in range(count):
            fleet.load.acquire(identity)
    assert numbers(fleet.place().placement.candidates) == ["3", "4", "2"]


def test_the_next_turn_goes_to_the_decode_engine_that_has_the_conversation_although_a_prefill_engine_has_it_too() -> (
    None
):
    fleet = Fleet((P, ""), (D, ""), (D, ""))
    prefix = chain(4096)
    query = RouteQuery(MODEL, body_bytes=4096 * 4, prefix=prefix)
    fleet.predictor.placed("r/prefill", query, "engine-1", 90.0)
    fleet.predictor.finished("r/prefill", 90.1)
    fleet.predictor.placed("r", query, "engine-2", 90.1, transferred=True)
    fleet.predictor.finished("r", 91.0)
    for _ in range(2):
        decision = fleet.place(4150, prefix=prefix)
        assert numbers(decision.placement.candidates)[0] == "2"
        assert handover(decision).outcome is PrefillOutcome.SHORT


def test_the_role_set_with_the_idle_prefill_engine_is_chosen() -> None:
    fleet = Fleet((P, "a"), (D, "a"), (P, "b"), (D, "b"))
    for identity in ("engine-2", "engine-4"):
        fleet.load.acquire(identity)  # so that a prompt computed there would delay an answer
    for number in range(5):
        fleet.predictor.placed(f"r{number}", RouteQuery(MODEL, body_bytes=40_000), "engine-1", 100.0)
    decision = fleet.place()
    assert numbers(decision.placement.candidates)[0] == "4"
    assert numbers(handover(decision).engines) == ["3"]


@pytest.mark.parametrize(
    ("engines", "changes", "outcome"),
    [
        (((P, "a"), (D, "b")), {}, "none_ready"),
        (((P, ""), (D, "")), {"health": Health.UNREACHABLE}, "none_ready"),
        (((P, ""), (B, "")), {}, "remote"),
    ],
)
def test_role_sets_without_a_ready_prefill_engine_compute_alone(
    engines: tuple[tuple[EngineRole, str], ...], changes: dict[str, Health], outcome: str
) -> None:
    fleet = Fleet(*engines)
    fleet.endpoints[0] = an_endpoint(1, role=P, role_set=engines[0][1], **changes)  # type: ignore[arg-type]
    assert handover(fleet.place()).outcome.value == outcome


@pytest.mark.parametrize(("answers", "outcome"), [(0, "overflow"), (40, "remote")])
def test_a_decode_engine_with_few_answers_computes_what_busy_prefill_engines_would_compute_late(
    answers: int, outcome: str
) -> None:
    fleet = Fleet((P, ""), (D, ""))
    query = RouteQuery(MODEL, body_bytes=40_000)
    fleet.predictor.placed("learned", query, "engine-1", 90.0)
    fleet.predictor.finished("learned", 92.0, head_at=92.0)
    fleet.predictor.charged("learned", Usage(10_000, 1, 10_001, 0), 92.0)
    for number in range(3):
        fleet.predictor.placed(f"r{number}", query, "engine-1", 100.0)
    for _ in range(answers):
        fleet.load.acquire("engine-2")
    assert handover(fleet.place(10_000)).outcome.value == outcome


def test_other_strategies_choose_the_decode_engine_alone() -> None:
    fleet = Fleet((P, ""), (D, ""), (D, ""))
    fleet.load.acquire("engine-2")
    decision = fleet.place(strategy="least-request")
    assert decision.placement.strategy == "least-request"
    assert numbers(decision.placement.candidates)[0] == "3"
    assert numbers(handover(decision).engines) == ["1"]


@pytest.mark.parametrize("operation", ["response", "tokenize"])
def test_operations_whose_prompts_cannot_be_handed_over_are_placed_as_ever(operation: str) -> None:
    assert Fleet((P, ""), (D, "")).place(operation=operation).handover is None


def test_pd_without_prefill_engines_is_predicted_and_says_so() -> None:
    decision = Fleet((B, ""), (B, "")).place(strategy="pd")
    assert decision.placement.degraded == (("pd", "no_prefill"),)
    assert decision.handover is None


def test_scores_of_the_record_give_the_choice_again() -> None:
    fleet = Fleet((P, "a"), (D, "a"), (P, "b"), (D, "b"), (D, "b"))
    fleet.load.acquire("engine-4")
    decision = fleet.place()
    trail = decision.trail
    assert trail is not None
    (part,) = trail.parts
    best = max(range(len(trail.endpoints)), key=part.scores.__getitem__)
    assert part.scores[best] == 1.0
    assert part.scores[trail.endpoints.index(decision.placement.first)] == 1.0
    assert trail.details["predicted_ttft_seconds"][best] > 0


def test_what_a_decode_engine_reports_of_a_prompt_that_it_took_over_teaches_nothing_of_its_cache() -> None:
    fleet = Fleet((P, ""), (D, ""))
    predictor, prefix = fleet.predictor, chain(4096)
    query = RouteQuery(MODEL, body_bytes=4096 * 4, prefix=prefix)
    for number in range(30):
        name = f"r{number}"
        predictor.placed(name, query, "engine-2", 100.0 + number, transferred=True)
        predictor.finished(name, 100.5 + number)
        predictor.charged(name, Usage(4096, 20, 4116, 0))
    assert predictor.audit.confidence("engine-2") == 1.0
    assert predictor.index.cached(prefix).of("engine-2") == 4096 * 4
    assert predictor.wait("engine-2", 131.0) == 0.0
