"""The /sim routes: faults, recorded requests, figures. They are not vLLM's and can be switched off."""

import json
from collections.abc import Callable, Mapping

from aiohttp import web

from aibrix_extproc.simulator.engine import Engine
from aibrix_extproc.simulator.errors import Reply, shape_a, shape_b
from aibrix_extproc.simulator.faults import FaultName, FaultPlan, FaultSyntaxError, PlannedFault, parse_plan
from aibrix_extproc.simulator.recorder import Recorder
from aibrix_extproc.simulator.wire import json_reply


class Admin:
    """Answers the /sim routes."""

    def __init__(
        self, engine: Engine, faults: FaultPlan, recorder: Recorder, refuse_connections: Callable[[float], None]
    ) -> None:
        self._engine = engine
        self._faults = faults
        self._recorder = recorder
        self._refuse_connections = refuse_connections

    def answer(self, request: web.BaseRequest, body: bytes) -> Reply:
        """Answer a request below /sim."""
        match (request.method, request.path):
            case ("PUT", "/sim/faults"):
                return self._put_faults(body)
            case ("GET", "/sim/faults"):
                return json_reply({"faults": self._faults.describe()})
            case ("DELETE", "/sim/faults"):
                self._faults.clear()
                return json_reply({"faults": []})
            case ("GET", "/sim/requests"):
                return self._get_requests(request.query)
            case ("DELETE", "/sim/requests"):
                self._recorder.clear()
                return json_reply({"requests": []})
            case ("GET", "/sim/stats"):
                return json_reply(self.stats())
        return shape_b(404, "Not Found")

    def stats(self) -> dict[str, object]:
        """The figures of the engine at this moment."""
        scheduler, metrics = self._engine.scheduler, self._engine.metrics
        finished = {
            reason: metrics.value("request_success", finished_reason=reason)
            for reason in ("stop", "length", "abort", "error")
        }
        return {
            "running": len(scheduler.running),
            "waiting": len(scheduler.waiting),
            "kv_cache_usage": scheduler.cache_usage,
            "cached_blocks": len(self._engine.cache),
            "prompt_tokens": metrics.value("prompt_tokens"),
            "generation_tokens": metrics.value("generation_tokens"),
            "prefix_cache_queries": metrics.value("prefix_cache_queries"),
            "prefix_cache_hits": metrics.value("prefix_cache_hits"),
            "finished": finished,
            "kv_transfers_kept": self._engine.transfers.kept,
            "kv_transfers_received": self._engine.transfers.received,
            "paused": self._engine.paused,
            "sleep_level": self._engine.sleep_level,
            "adapters": [lora.name for lora in self._engine.models.adapters],
        }

    def _put_faults(self, body: bytes) -> Reply:
        try:
            planned = parse_plan(json.loads(body or b"null"))
        except (FaultSyntaxError, ValueError) as error:
            return shape_a(400, "BadRequestError", str(error))
        lasting: list[PlannedFault] = []
        headers: dict[str, str] = {}
        for entry in planned:
            # A listener that is gone concerns no single request: it goes at once.
            if entry.fault.name is FaultName.REFUSE_CONNECTIONS:
                self._refuse_connections(entry.fault.number("seconds"))
                headers["Connection"] = "close"
            else:
                lasting.append(entry)
        self._faults.replace(lasting)
        return json_reply({"faults": self._faults.describe()}, headers)

    def _get_requests(self, query: Mapping[str, str]) -> Reply:
        limit = query.get("limit", "")
        recent = self._recorder.recent(query.get("path", ""), int(limit) if limit.isdigit() else None)
        with_body = query.get("body", "") in ("1", "true")
        header, _, value = query.get("header", "").partition("=")  # only requests with this value of a header
        found = [one for one in recent if not header or one.header(header) == value]
        return json_reply({"requests": [one.describe(with_body) for one in found]})
