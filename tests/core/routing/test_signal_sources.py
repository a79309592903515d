"""Producers of signals start with the first scorer that needs them, and only then."""

from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.routing.signals import Need, SignalSources


def test_all_producers_of_a_need_start_once_and_also_those_that_come_late() -> None:
    sources, started = SignalSources(LoadBook(), lambda: 0.5), list[str]()
    for name in ("first", "second"):
        sources.provide(Need.PREFIX, lambda name=name: started.append(name))  # type: ignore[misc]
    sources.require({Need.TICK})
    assert started == []

    sources.require({Need.PREFIX})
    sources.require({Need.PREFIX})
    sources.provide(Need.PREFIX, lambda: started.append("late"))
    assert started == ["first", "second", "late"]
