"""Envoy, two gateways, a metadata service and engines as real processes, with an administrator."""

import json
import sqlite3
import sys
from dataclasses import dataclass, field, replace
from typing import Any

from aibrix_extproc.adapters.envoyproxy.spec import EnvoySpec, SocketAddress
from tests.dataplane.children import Child
from tests.dataplane.engines import ENGINE_KEY
from tests.dataplane.raw import LOOPBACK
from tests.dataplane.stack import METERED, Stack
from tests.waiting import eventually

ADMIN_KEY = "sk-admin-0123456789abcdefghijklmnopqrst"
USER_KEY = "sk-user-0123456789abcdefghij"
LEASE_SECONDS = 3.0
ENDED = ("succeeded", "failed", "cancelled")
ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}


@dataclass
class OperatedStack(Stack):
    """A stack whose gateways follow a metadata service."""

    metadata: Child | None = None
    metadata_port: int = 0
    gateways: int = 2
    lease_seconds: float = LEASE_SECONDS
    _metadata_arguments: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.api_keys = (USER_KEY,)
        self.envoy_options = {**METERED, **self.envoy_options}
        self.workers_wanted = self.gateways

    def start(self) -> None:
        """The service is between the engines, which it polls, and the gateways, which follow it."""
        self._start_hosts()
        self.write_fleet()
        self._note_keys()
        key = self.directory / "admin-key"
        key.write_text(ADMIN_KEY)
        key.chmod(0o600)
        self.start_metadata()
        self.serve_arguments += (
            "--metering", "--metadata", "--control-url", f"http://{LOOPBACK}:{self.metadata_port}",
            "--admin-key-file", str(key),
        )  # fmt: skip
        self._start_hosts = lambda: None  # type: ignore[method-assign]
        super().start()
        eventually(lambda: len(self.engines_listed()) == len(self.engines), "the service knows the engines")

    def start_metadata(self) -> None:
        """Start the service, the second time on the port of the first."""
        settings = self.directory / "metadata.json"
        settings.write_text(json.dumps({
            "metadata": {"data_dir": str(self.directory / "data"), "port": self.metadata_port,
                         "lease_seconds": self.lease_seconds},
            "admin": {"port": 0},
            "fleet": {"file": str(self.fleet_file), "engine_api_key": ENGINE_KEY, "poll_seconds": 0.5},
            "metering": {"note_keys": str(self.directory / "note-keys")},
        }))  # fmt: skip
        program = [sys.executable, "-m", "aibrix_extproc", "metadata", "--config", str(settings)]
        self.metadata = self._run("metadata", program, [])
        line = json.loads(self.metadata.wait_output('"listening"'))
        self.metadata_port = int(line["api"].rpartition(":")[2])

    def _spec(self) -> EnvoySpec:
        return replace(super()._spec(), metadata=SocketAddress(LOOPBACK, self.metadata_port))

    # --- operators

    def operate(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """An administrator's request; status and JSON."""
        content = None if body is None else json.dumps(body).encode()
        given = ADMIN | {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        answer = self.send(method, f"/admin/v1{path}", content, given)
        return answer.status, answer.json()

    def begin(self, **body: object) -> str:
        status, run = self.operate("POST", "/operations", body)
        assert status == 202, run
        return str(run["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        status, run = self.operate("GET", f"/operations/{run_id}")
        assert status == 200, run
        return dict(run)

    def ended(self, run_id: str, seconds: float = 120.0) -> dict[str, Any]:
        """The run when it has ended."""

        def found() -> dict[str, Any] | None:
            run = self.run(run_id)
            return run if run["status"] in ENDED else None

        return eventually(found, lambda: self.run(run_id), seconds=seconds)

    def engines_listed(self) -> list[dict[str, Any]]:
        status, found = self.operate("GET", "/engines")
        return [one for one in found["data"] if one["health"] == "ready"] if status == 200 else []

    def cordons(self) -> list[str]:
        """Of the database: those that are there."""
        connection = sqlite3.connect(self.directory / "data" / "ledger.sqlite", timeout=30.0)
        try:
            query = "SELECT id FROM control_rows WHERE section = 'cordons' AND NOT deleted"
            return [row[0] for row in connection.execute(query)]
        finally:
            connection.close()

    def fleet_of(self, index: int) -> list[dict[str, Any]]:
        """The endpoints as a gateway sees them."""
        return list(self.workers[index].admin("/fleet").json()["endpoints"])
