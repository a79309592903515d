"""A gateway's hint narrows what is picked, and never makes a model exist."""

import pytest

from aibrix_extproc.core.fleet.subset import Subset, subset_of
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.place import Decision
from aibrix_extproc.core.routing.request import Place
from tests.build import CALLER, MODEL, a_placer, a_snapshot, an_endpoint, an_operation


def place(subset: Subset | None, model: str = MODEL) -> object:
    snapshot = a_snapshot(*(an_endpoint(number) for number in range(1, 5)))
    request = Place(an_operation("chat_completion"), RouteQuery(model), None, CALLER, subset=subset)
    return a_placer("random").place(request, snapshot)


def test_hint_limits_every_candidate() -> None:
    answer = place(subset_of(["10.0.0.2:8000", "10.0.0.4"]))
    assert isinstance(answer, Decision)
    assert {one.address for one in answer.placement.candidates} == {"10.0.0.2:8000", "10.0.0.4:8000"}
    assert set(answer.placement.destination().split(",")) == {"10.0.0.2:8000", "10.0.0.4:8000"}


def test_without_a_hint_everything_may_be_picked() -> None:
    answer = place(None)
    assert isinstance(answer, Decision)
    assert len(answer.placement.candidates) == 4


@pytest.mark.parametrize("entries", [(), ("10.0.0.2:8001",), ("10.9.9.9",)], ids=["empty", "other port", "stranger"])
def test_hint_that_leaves_nobody_is_a_503(entries: tuple[str, ...]) -> None:
    answer = place(subset_of(entries))
    assert isinstance(answer, Problem)
    assert answer.http_status == 503


def test_unknown_model_is_a_404_whatever_the_hint() -> None:
    answer = place(subset_of(["10.0.0.2:8000"]), "nope")
    assert isinstance(answer, Problem)
    assert answer.http_status == 404
