"""The processes of `aibrix-extproc local`: their command lines, and how one sees that each is ready."""

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import aiohttp

from aibrix_extproc.adapters.envoyproxy.spec import MAX_MESSAGE_SECONDS, STREAM_FILTER, EnvoySpec, SocketAddress
from aibrix_extproc.adapters.envoyproxy.supervise import ChildSpec
from aibrix_extproc.app.local.plan import GatewayWorker, MetadataProcess, Plan, SimulatedEngine
from aibrix_extproc.app.local.ports import LOOPBACK
from aibrix_extproc.app.local.secrets import write_secret
from aibrix_extproc.settings import environment_with

STOP_GRACE: Final = 5.0
_PROBE_TIMEOUT: Final = aiohttp.ClientTimeout(total=2)


def _ourselves(*words: str) -> list[str]:
    return [sys.executable, "-m", "aibrix_extproc", *words]


def simulated_engine(engine: SimulatedEngine, plan: Plan, session: aiohttp.ClientSession) -> ChildSpec:
    """A simulated engine that answers its health check."""
    task = ("--task", engine.task) if engine.task else ()
    command = _ourselves("simulate", "--port", str(engine.port), "--model", engine.model, *task)
    if engine.extra:  # by a file, because a key may be among them
        path = plan.directories.run / f"{engine.name.replace(' ', '-')}-options.json"
        write_secret(path, json.dumps(engine.extra).encode())
        command += ["--options-file", str(path)]
    return ChildSpec(
        f"{engine.name} ({engine.model})",
        tuple(command),
        _log(plan, engine.name),
        answers(session, f"http://{engine.address}/health"),
        STOP_GRACE,
    )


def gateway_worker(worker: GatewayWorker, plan: Plan, session: aiohttp.ClientSession) -> ChildSpec:
    """A gateway worker, ready when it has its fleet."""
    command = _ourselves("serve", "--host", LOOPBACK, "--port", str(worker.port))
    command += ["--admin-host", LOOPBACK, "--admin-port", str(worker.admin_port), "--fleet", str(plan.fleet)]
    command += ["--server-max-message-timeout-seconds", str(MAX_MESSAGE_SECONDS)]
    command += plan.tls.flags
    command += ["--metering", "--note-keys", str(plan.note_keys)]  # the Envoy beside it has all that this needs
    command += _metadata_options(plan)
    command += ["--config", str(plan.config)] if plan.config else []
    command += ["--key-file", str(plan.key_file)] if plan.key_file else []
    command += ["--admin-key-file", str(plan.admin_key)]
    command += ["--admin-explorer-origin", plan.base_url.removesuffix("/v1")]
    is_ready = answers(session, f"http://{LOOPBACK}:{worker.admin_port}/readyz")
    # Not by arguments, which every user of the machine can read.
    environment = environment_with({"access": {"api_keys": list(plan.api_keys)}}) if plan.api_keys else None
    return ChildSpec(worker.name, tuple(command), _log(plan, worker.name), is_ready, STOP_GRACE, environment)


def _metadata_options(plan: Plan) -> list[str]:
    if plan.metadata is None:
        return []
    spool = str(plan.metadata.data / "usage-spool")
    return ["--metadata", "--control-url", f"http://{plan.metadata.address}", "--usage-spool", spool]


def metadata_service(process: MetadataProcess, plan: Plan, session: aiohttp.ClientSession) -> ChildSpec:
    """The service of files, uploads and batches; it runs batches through Envoy like a client."""
    command = _ourselves("metadata", "--metadata-host", LOOPBACK, "--metadata-port", str(process.port))
    command += ["--admin-host", LOOPBACK, "--admin-port", str(process.admin_port), "--data", str(process.data)]
    command += ["--note-keys", str(plan.note_keys), "--gateway-url", plan.base_url.removesuffix("/v1")]
    command += ["--fleet", str(plan.fleet)]
    command += ["--config", str(plan.config)] if plan.config else []
    is_ready = answers(session, f"http://{LOOPBACK}:{process.admin_port}/readyz")
    return ChildSpec("metadata service", tuple(command), _log(plan, "metadata"), is_ready, STOP_GRACE)


def envoy_spec(plan: Plan) -> EnvoySpec:
    """The values of the plan's Envoy configuration."""
    return EnvoySpec(
        listen=plan.listen,
        admin=plan.envoy_admin,
        processors=tuple(SocketAddress(LOOPBACK, worker.port) for worker in plan.workers),
        processor_tls=plan.tls.envoy,
        metadata=None if plan.metadata is None else plan.metadata.address,
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
