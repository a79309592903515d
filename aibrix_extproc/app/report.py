"""The pages of the admin server, made of what the parts report."""

from collections.abc import Callable, Mapping

from aibrix_extproc.app.frame import Frame
from aibrix_extproc.core.fleet.model import Endpoint, Snapshot


def health_page(frame: Frame, details: Mapping[str, object]) -> tuple[bool, Mapping[str, object]]:
    """Whether the process is ready, and the page that says why; `details` are of the process, reports of its parts."""
    parts = frame.parts
    ready = all(part.known for part in parts) and not frame.draining
    page: dict[str, object] = {
        "ready": ready,
        "draining": frame.draining,
        "degraded": any(part.degraded for part in parts),
        **details,
    }
    for part in parts:
        report = part.report()
        if report is not None:
            page[part.name] = report
    return ready, page


def fleet_page(snapshot: Snapshot, in_flight: Callable[[str], int]) -> Mapping[str, object]:
    """Every endpoint, and the endpoints of each model."""
    return {
        "version": snapshot.version,
        "known": snapshot.known,
        "endpoints": [_described(one, in_flight(one.identity)) for one in snapshot.endpoints],
        "models": {name: [one.address for one in found] for name, found in snapshot.by_model.items()},
    }


def _described(endpoint: Endpoint, in_flight: int) -> dict[str, object]:
    return {
        "identity": endpoint.identity,
        "address": endpoint.address,
        "name": endpoint.name,
        "engine": endpoint.engine,
        "role": endpoint.role.value,
        "role_set": endpoint.role_set,
        "frontend": endpoint.frontend,
        "weight_version": endpoint.weight_version,
        "engine_version": endpoint.engine_version,
        "labels": dict(endpoint.labels),
        "annotations": dict(endpoint.annotations),
        "models": [served.id for served in endpoint.models],
        "tasks": sorted(endpoint.tasks),
        "health": endpoint.health.value,
        "detail": endpoint.detail,
        "remark": endpoint.warning,
        "cordon": endpoint.cordon,
        "in_flight": in_flight,
    }
