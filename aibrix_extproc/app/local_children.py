"""The processes of `aibrix-extproc local`: their command lines, and how one sees that each is ready."""

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import aiohttp

from aibrix_extproc.adapters.envoyproxy.spec import STREAM_FILTER, EnvoySpec, SocketAddress
from aibrix_extproc.adapters.envoyproxy.supervise import ChildSpec
from aibrix_extproc.app.local_plan import LOOPBACK, GatewayWorker, Plan, SimulatedEngine
from aibrix_extproc.app.local_secrets import write_secret
from aibrix_extproc.settings import environment_with

STOP_GRACE: Final = 5.0
_PROBE_TIMEOUT: Final = aiohttp.ClientTimeout(total=2)
_OURSELVES: Final = (sys.executable, "-m", "aibrix_extproc")


def simulated_engine(engine: SimulatedEngine, plan: Plan, session: aiohttp.ClientSession) -> ChildSpec:
    """A simulated engine that answers its health check."""
    task = ("--task", engine.task) if engine.task else ()
    command = (*_OURSELVES, "simulate", "--port", str(engine.port), "--model", engine.model, *task)
    if engine.extra:  # by a file, because a key may be among them
        path = plan.directories.run / f"{engine.name.replace(' ', '-')}-options.json"
        write_secret(path, json.dumps(engine.extra).encode())
        command = (*command, "--options-file", str(path))
    return ChildSpec(
        f"{engine.name} ({engine.model})",
        command,
        _log(plan, engine.name),
        answers(session, f"http://{engine.address}/health"),
        STOP_GRACE,
    )


def gateway_worker(worker: GatewayWorker, plan: Plan, session: aiohttp.ClientSession) -> ChildSpec:
    """A gateway worker that knows its fleet."""
    command = [*_OURSELVES, "serve", "--host", LOOPBACK, "--port", str(worker.port)]
    command += ["--admin-host", LOOPBACK, "--admin-port", str(worker.admin_port), "--fleet", str(plan.fleet)]
    command += plan.tls.flags
    command += ["--metering", "--note-keys", str(plan.note_keys)]  # the Envoy beside it has all that this needs
    command += ["--config", str(plan.config)] if plan.config else []
    command += ["--key-file", str(plan.key_file)] if plan.key_file else []
    is_ready = answers(session, f"http://{LOOPBACK}:{worker.admin_port}/readyz")
    # Not by arguments, which every user of the machine can read.
    environment = environment_with({"access": {"api_keys": list(plan.api_keys)}}) if plan.api_keys else None
    return ChildSpec(worker.name, tuple(command), _log(plan, worker.name), is_ready, STOP_GRACE, environment)


def envoy_spec(plan: Plan) -> EnvoySpec:
    """What the plan's Envoy is told."""
    return EnvoySpec(
        listen=plan.listen,
        admin=plan.envoy_admin,
        processors=tuple(SocketAddress(LOOPBACK, worker.port) for worker in plan.workers),
        processor_tls=plan.tls.envoy,
        endpoints_directory=plan.directories.endpoints,
        access_log=plan.directories.logs / "access.log",
        stream_filter=STREAM_FILTER,
        access_log_service=True,
        max_body_bytes=plan.settings.limits.max_body_bytes,
        retries=plan.settings.routing.destinations - 1,
    )


def envoy(plan: Plan, session: aiohttp.ClientSession) -> ChildSpec:
    """Envoy, ready when its listener takes connections. Importing the typed configuration takes a while."""
    from aibrix_extproc.adapters.envoyproxy.configure import command, write_configuration

    path = plan.directories.run / "envoy.json"
    write_configuration(envoy_spec(plan), path)
    is_ready = answers(session, f"http://{plan.envoy_admin}/ready")
    return ChildSpec("Envoy", tuple(command(plan.envoy, path)), _log(plan, "envoy"), is_ready, STOP_GRACE)


def answers(session: aiohttp.ClientSession, url: str) -> Callable[[], Awaitable[bool]]:
    """A probe: whether a GET of the URL gives a 200."""

    async def probe() -> bool:
        try:
            async with session.get(url, timeout=_PROBE_TIMEOUT) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    return probe


def _log(plan: Plan, name: str) -> Path:
    return plan.directories.logs / f"{name.replace(' ', '-')}.log"
