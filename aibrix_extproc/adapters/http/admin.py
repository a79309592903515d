"""The admin server: metrics, liveness, readiness with its reasons, and the fleet. For operators, never behind Envoy."""

import json
from collections.abc import Callable, Mapping
from typing import Protocol

from aiohttp import web

from aibrix_extproc.adapters.http.explorer.pages import Explorer
from aibrix_extproc.webserver import WebServer

Report = Mapping[str, object]


class Explaining(Protocol):
    """The pages of the admin server about placement."""

    def find(self, request_id: str) -> Report | None:
        """The decision about a request; None if it is not kept."""

    def latest(self) -> Report:
        """Which decisions are kept."""

    def dry_run(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[bool, Report]:
        """The placement that a request would get now; False with the error that it would get."""


class AdminServer(WebServer):
    """A small HTTP server whose pages are functions handed in."""

    def __init__(
        self,
        *,
        metrics: Callable[[], tuple[bytes, str]],
        health: Callable[[], tuple[bool, Report]],
        fleet: Callable[[], Report],
        version: str,
        explaining: Explaining | None = None,
        explorer_origin: str = "",
    ) -> None:
        self._metrics = metrics
        self._health = health
        self._fleet = fleet
        self._version = version
        self._explaining = explaining
        app = web.Application()
        app.add_routes(
            [
                web.get("/", self._on_index),
                web.get("/metrics", self._on_metrics),
                web.get("/livez", self._on_live),
                web.get("/readyz", self._on_ready),
                web.get("/fleet", self._on_fleet),
                web.get("/version", self._on_version),
            ]
        )
        if explaining is not None:
            app.add_routes(
                [
                    web.get("/decisions", self._on_decisions),
                    web.get("/decisions/{request_id}", self._on_decision),
                    web.post("/explain", self._on_explain),
                ]
            )
        if explorer_origin:
            app.add_routes(Explorer(explorer_origin).routes())
        self._has_explorer = bool(explorer_origin)
        super().__init__(app)

    async def _on_index(self, _: web.Request) -> web.Response:
        more = "/decisions\n/explain\n" if self._explaining is not None else ""
        more += "/explorer\n" if self._has_explorer else ""
        return web.Response(text=f"/metrics\n/livez\n/readyz\n/fleet\n/version\n{more}")

    async def _on_metrics(self, _: web.Request) -> web.Response:
        body, content_type = self._metrics()
        return web.Response(body=body, headers={"content-type": content_type})

    async def _on_live(self, _: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _on_ready(self, _: web.Request) -> web.Response:
        ready, report = self._health()
        return _json(report, 200 if ready else 503)

    async def _on_fleet(self, _: web.Request) -> web.Response:
        return _json(self._fleet())

    async def _on_version(self, _: web.Request) -> web.Response:
        return _json({"version": self._version})

    async def _on_decisions(self, _: web.Request) -> web.Response:
        assert self._explaining is not None
        return _json(self._explaining.latest())

    async def _on_decision(self, request: web.Request) -> web.Response:
        assert self._explaining is not None
        found = self._explaining.find(request.match_info["request_id"])
        if found is None:
            return _json({"error": {"message": "This process keeps no decision about that request."}}, 404)
        return _json(found)

    async def _on_explain(self, request: web.Request) -> web.Response:
        """The request's body and headers are those of the request that is asked about; its path is in the query."""
        assert self._explaining is not None
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = request.query.get("path", "/v1/chat/completions")
        placed, report = self._explaining.dry_run(path, headers, await request.read())
        return _json(report, 200 if placed else 422)


def _json(value: Report, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(value, indent=2) + "\n", status=status, content_type="application/json")
