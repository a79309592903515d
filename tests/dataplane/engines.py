"""A simulated engine as a test sees it: what it serves, what reached it, what it shall do wrong."""

import json
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.dataplane.raw import JSON, send

ENGINE_KEY = "engine-secret-key-0123456789"


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What to start: a name for the tests, arguments of `simulate`, and what the fleet file says of it."""

    name: str
    models: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def command(self, port: int = 0) -> list[str]:
        models = [word for model in self.models for word in ("--model", model)]
        return [*models, "--port", str(port), "--api-key", ENGINE_KEY, *self.arguments]


@dataclass(slots=True)
class Engine:
    """A running engine."""

    spec: EngineSpec
    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def get(self, path: str) -> Any:
        return send(self.port, "GET", path, {"authorization": f"Bearer {ENGINE_KEY}"}).json()

    def post(self, path: str, body: object = None) -> int:
        headers = {**JSON, "authorization": f"Bearer {ENGINE_KEY}"}
        return send(self.port, "POST", path, headers, json.dumps(body).encode()).status

    def requests(self, path: str = "/", *, bodies: bool = False, header: str = "") -> list[dict[str, Any]]:
        """The requests of clients that it remembers, oldest first; polling is left out. `header`: NAME=VALUE."""
        found = self.get(f"/sim/requests?path={path}&body={int(bodies)}&header={quote(header)}")["requests"]
        return [one for one in found if one["method"] == "POST"]

    def forget(self) -> None:
        """Forget the requests so far: it remembers the last 256 only."""
        send(self.port, "DELETE", "/sim/requests")

    def request(self, marker: str) -> dict[str, Any] | None:
        """The request with this value of the header x-marker."""
        return next(iter(self.requests(bodies=True, header=f"x-marker={marker}")), None)

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("/sim/stats")
        return found

    def fail(self, fault: str, *, count: int | None = None, path: str = "", **keys: object) -> None:
        """Plan a fault for the next requests (all of them without a count)."""
        plan = {"fault": fault, "count": count, "path": path, **keys}
        status = send(self.port, "PUT", "/sim/faults", JSON, json.dumps(plan).encode()).status
        assert status == 200, plan

    def recover(self) -> None:
        send(self.port, "DELETE", "/sim/faults")


def header(request: dict[str, Any], name: str) -> str | None:
    """A header of a remembered request."""
    return next((value for key, value in request["headers"] if key.lower() == name), None)


def refused(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def freeze(pid: int) -> None:
    """Stop a process without ending it."""
    os.kill(pid, signal.SIGSTOP)
