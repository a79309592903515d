"""The admin server: metrics, liveness, readiness with its reasons, and the fleet. For operators, never behind Envoy."""

import json
from collections.abc import Callable, Mapping

from aiohttp import web

from aibrix_extproc.webserver import WebServer

Report = Mapping[str, object]


class AdminServer(WebServer):
    """A small HTTP server whose pages are functions handed in."""

    def __init__(
        self,
        *,
        metrics: Callable[[], tuple[bytes, str]],
        health: Callable[[], tuple[bool, Report]],
        fleet: Callable[[], Report],
        version: str,
    ) -> None:
        self._metrics = metrics
        self._health = health
        self._fleet = fleet
        self._version = version
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
        super().__init__(app)

    async def _on_index(self, _: web.Request) -> web.Response:
        return web.Response(text="/metrics\n/livez\n/readyz\n/fleet\n/version\n")

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


def _json(value: Report, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(value, indent=2) + "\n", status=status, content_type="application/json")
