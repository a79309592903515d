"""What the gateway tells its predictor."""

from dataclasses import replace

import pytest

from aibrix_extproc.app.parts.predicting import Predicting
from aibrix_extproc.core.exchange.events import Cause
from aibrix_extproc.core.exchange.outputs import Assigned, Finished, Moved, Outcome
from aibrix_extproc.core.exchange.records import Charge, StreamEnd
from aibrix_extproc.core.fleet.model import Endpoint, Health
from aibrix_extproc.core.openai.wire.prefix import PrefixChain
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.predictor import Predictor
from tests.build import a_snapshot, an_endpoint

QUERY = RouteQuery("m", body_bytes=40_000, prefix=PrefixChain((1, 2), (20_000, 40_000)))


class Rig:
    def __init__(self, *, needed: bool = True) -> None:
        self.now = 100.0
        self.predictor = Predictor()
        self.cached: list[tuple[float, float]] = []
        self.missed: list[float] = []
        self.part = Predicting(
            self.predictor, lambda: a_snapshot(), lambda: self.now, lambda: needed,
            found_cached=lambda *tokens: self.cached.append(tokens), missed=self.missed.append,
        )  # fmt: skip

    def finish(self, status: int = 200, outcome: Outcome = Outcome.SERVED) -> None:
        self.part.finished(
            Finished("r", "chat_completion", "m", "c", True, status, outcome, Cause.HALF_CLOSED, None, "engine-1", None,
                     "", 0, self.now - 1, self.now - 1, self.now - 0.9, self.now)
        )  # fmt: skip

    def charge(self) -> None:
        self.part.charged(
            Charge(request_id="r", operation="chat_completion", model="m", caller="c", status=200, first_seconds=0.25,
                   usage=Usage(10_000, 30, 10_030, 0), end=StreamEnd.COMPLETE)
        )  # fmt: skip


def test_request_is_followed_from_its_engine_to_its_charge() -> None:
    rig = Rig()
    rig.part.assigned(Assigned("engine-1", request_id="r", query=QUERY))
    assert rig.predictor.engine("engine-1", "m").running == 1
    rig.now += 1
    rig.finish()
    assert rig.predictor.engine("engine-1", "m").running == 0
    rig.charge()
    # 10,000 tokens were computed from the placement to the first token: 0.1 s to the head and 0.25 s behind it.
    assert rig.predictor.speed("engine-1") == pytest.approx(10_000 / 0.35, rel=0.01)
    assert rig.missed


def test_nothing_is_kept_while_no_strategy_needs_it() -> None:
    rig = Rig(needed=False)
    rig.part.assigned(Assigned("engine-1", request_id="r", query=QUERY))
    assert len(rig.predictor.index) == 0


@pytest.mark.parametrize(
    ("status", "outcome", "avoided"),
    [(200, Outcome.SERVED, False), (400, Outcome.ENGINE_ERROR, False), (500, Outcome.ENGINE_ERROR, True),
     (504, Outcome.REFUSED, True), (0, Outcome.CANCELLED, False)],
)  # fmt: skip
def test_engine_that_fails_is_avoided_and_one_whose_client_leaves_is_not(
    status: int, outcome: Outcome, avoided: bool
) -> None:
    rig = Rig()
    rig.part.assigned(Assigned("engine-1", request_id="r", query=QUERY))
    rig.finish(status, outcome)
    assert (rig.predictor.avoided("engine-1", rig.now) > 0) is avoided


def test_retry_takes_the_work_along() -> None:
    rig = Rig()
    rig.part.assigned(Assigned("engine-1", request_id="r", query=QUERY))
    rig.part.moved(Moved("engine-1", "engine-2", request_id="r"))
    assert [rig.predictor.engine(f"engine-{number}", "m").running for number in (1, 2)] == [0, 1]


ENDPOINT = an_endpoint(1)


@pytest.mark.parametrize(
    ("before", "after", "keeps"),
    [
        (ENDPOINT, replace(ENDPOINT, name="another"), True),
        (ENDPOINT, replace(ENDPOINT, health=Health.SILENT), True),
        (replace(ENDPOINT, health=Health.SILENT), ENDPOINT, True),
        (replace(ENDPOINT, health=Health.UNREACHABLE), ENDPOINT, False),
        (replace(ENDPOINT, health=Health.ASLEEP), ENDPOINT, False),
        (ENDPOINT, replace(ENDPOINT, weight_version="2"), False),
        (ENDPOINT, None, False),
    ],
    ids=["renamed", "silent", "answers again", "was away", "woke", "other weights", "gone"],
)
def test_index_forgets_what_an_engine_cannot_have_any_more(
    before: Endpoint, after: Endpoint | None, keeps: bool
) -> None:
    rig = Rig()
    rig.part.assigned(Assigned(ENDPOINT.identity, request_id="r", query=QUERY))
    rig.part.on_changes([(before, after)], None)
    assert (rig.predictor.index.blocks(ENDPOINT.identity) > 0) is keeps


def test_operation_on_an_engine_empties_its_index() -> None:
    rig = Rig()
    rig.part.assigned(Assigned("engine-1", request_id="r", query=QUERY))
    rig.part.renewed("engine-1")
    assert rig.predictor.index.blocks("engine-1") == 0
