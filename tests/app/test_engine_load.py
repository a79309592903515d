"""The load of a model's engines: lines of batches are counted, and are not among the requests of others."""

from aibrix_extproc.app.engine_load import EngineLoad, LoadCount
from aibrix_extproc.core.exchange.events import Cause
from aibrix_extproc.core.exchange.outputs import Assigned, Finished, Moved, Outcome
from aibrix_extproc.core.fleet.load import LoadBook
from tests.build import a_snapshot, an_endpoint


def over(identity: str, *, batch: bool) -> Finished:
    """The end of an exchange."""
    return Finished(
        "r", "chat_completion", "m", "me", False, 200, Outcome.SERVED, Cause.HALF_CLOSED, None, identity, None, "", 0,
        None, None, None, 1.0, batch=batch,
    )  # fmt: skip


def test_only_requests_of_others_are_reported() -> None:
    everything, of_batches = LoadBook(), LoadBook()
    count = LoadCount(everything, of_batches)
    fleet = a_snapshot(*(an_endpoint(number, models=(model,)) for number, model in ((1, "m"), (2, "m"), (3, "n"))))
    load = EngineLoad(lambda: fleet, everything, of_batches, "ab12")
    assert load.describe("m") == "ab12 0 2"
    count.assigned(Assigned("engine-1"))
    count.assigned(Assigned("engine-1", batch=True))
    count.moved(Moved("engine-1", "engine-2", batch=True))
    assert (everything.in_flight("engine-1"), everything.in_flight("engine-2"), of_batches.in_flight("engine-2")) == (
        1,
        1,
        1,
    )
    assert (load.describe("m"), load.describe("n"), load.describe("none")) == ("ab12 1 2", "ab12 0 1", "ab12 0 0")
    count.finished(over("engine-2", batch=True))
    count.finished(over("engine-1", batch=False))
    assert (everything.total(), of_batches.total()) == (0, 0)
