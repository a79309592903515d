"""A desired adapter as the admin interface shows it: the record, and what became of it."""

from collections.abc import Sequence

from aibrix_extproc.core.operations.desired import DesiredAdapter
from aibrix_extproc.core.operations.placed import AdapterState, State


def adapter_object(
    version: int, record: DesiredAdapter, states: Sequence[AdapterState], now: float
) -> dict[str, object]:
    """The object of the API. `now`: of the clock of the states."""
    engines = [one for one in states if one.identity]
    return {
        "id": record.name, "object": "adapter", "path": record.path, "base": record.base, "replicas": record.replicas,
        "placement": dict(record.placement), "pinned": record.pinned, "lazy": record.lazy, "source": record.source,
        "version": version, "state": overall(record, states),
        "loaded": sum(one.state in (State.LOADED, State.FOUND) for one in engines),
        "wanted": sum(one.state not in (State.FOUND, State.UNLOADING) for one in engines),
        "endpoints": [_endpoint(one, now) for one in engines],
        "drift": [one.detail for one in states if not one.identity],
    }  # fmt: skip


def overall(record: DesiredAdapter, states: Sequence[AdapterState]) -> str:
    """One word for all engines: the worst that is true of any."""
    found = {one.state for one in states}
    if State.FAILED in found:
        return "failed"
    if found & {State.LOADING, State.WANTED}:
        return "loading"
    if State.LOADED in found:
        return "loaded"
    if State.UNLOADING in found:
        return "unloading"
    return "idle" if record.lazy else "pending"


def _endpoint(state: AdapterState, now: float) -> dict[str, object]:
    shown: dict[str, object] = {"endpoint": state.address, "name": state.name, "state": state.state.value}
    if state.listed is not None:
        shown["path"] = state.listed
    if state.state is State.FAILED:
        shown |= {"detail": state.detail, "failures": state.failures}
        shown["retry_in_seconds"] = round(max(0.0, state.next_at - now), 1)
    return shown
