"""Plans what `aibrix-extproc local` starts, and checks it before anything is started."""

import argparse
import importlib.util
import ipaddress
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Final

import yaml

from aibrix_extproc.adapters.envoyproxy.spec import SocketAddress
from aibrix_extproc.app.local.checks import (
    check_key_file,
    envoy_binary,
    existing_fleet,
    given_engines,
    ip_of,
    refuse_conflicts,
    settings_of,
    task_of,
)
from aibrix_extproc.app.local.errors import EXIT_USAGE, LocalError
from aibrix_extproc.app.local.ports import LOOPBACK, free_port, reserve
from aibrix_extproc.app.local.secrets import admin_key, note_keys
from aibrix_extproc.app.local.tls import LocalTls, mutual_tls
from aibrix_extproc.core.fleet.roles import EngineRole
from aibrix_extproc.settings import Settings
from aibrix_extproc.simulator.options import Task

DEFAULT_MODEL: Final = "sim-chat"
DEFAULT_ENGINES: Final = 2

MAX_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class SimulatedEngine:
    """An engine that we start ourselves."""

    name: str
    model: str
    task: str
    port: int
    extra: tuple[str, ...]  # more options of `aibrix-extproc simulate`
    role: EngineRole = EngineRole.BOTH

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{LOOPBACK}:{self.port}"


@dataclass(frozen=True, slots=True)
class GatewayWorker:
    """One `aibrix-extproc serve` process."""

    name: str
    port: int
    admin_port: int


@dataclass(frozen=True, slots=True)
class MetadataProcess:
    """The `aibrix-extproc metadata` process."""

    port: int
    admin_port: int
    data: Path
    is_kept: bool  # the folder outlives us

    @property
    def address(self) -> SocketAddress:
        """Where its API listens."""
        return SocketAddress(LOOPBACK, self.port)


@dataclass(frozen=True, slots=True)
class Directories:
    """The folders of a run."""

    run: Path
    logs: Path
    endpoints: Path  # watched by Envoy


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is going to run, and where."""

    envoy: Path
    listen: SocketAddress
    envoy_admin: SocketAddress
    workers: tuple[GatewayWorker, ...]
    simulated: tuple[SimulatedEngine, ...]
    engine_addresses: tuple[str, ...]  # of engines that we do not start, as `host:port`
    fleet: Path
    note_keys: Path
    admin_key: Path
    tls: LocalTls
    directories: Directories
    settings: Settings
    config: Path | None
    api_keys: tuple[str, ...]  # as given by flags
    key_file: Path | None = None  # as given by a flag
    metadata: MetadataProcess | None = None  # none: files, uploads and batches are a 404

    @property
    def base_url(self) -> str:
        """The URL for an OpenAI client; an address that means every interface is shown as loopback."""
        host = ipaddress.ip_address(self.listen.host)
        shown = ("::1" if host.version == 6 else LOOPBACK) if host.is_unspecified else str(host)
        return f"http://{SocketAddress(shown, self.listen.port)}/v1"

    @property
    def client_key(self) -> str | None:
        """A key that the gateway accepts; None if it accepts any, or if all are in a key file, which has hashes."""
        keys = self.settings.access.api_keys
        return keys[0].get_secret_value() if keys else None

    @property
    def wants_keys(self) -> bool:
        """Whether a client without a key is refused."""
        return bool(self.settings.access.api_keys) or self.settings.access.key_file is not None


def make_plan(args: argparse.Namespace, run_directory: Path) -> Plan:
    """Turn options into a plan and write the fleet file, unless there is one; LocalError says what is wrong."""
    refuse_conflicts(args)
    settings = settings_of(args)
    existing = existing_fleet(args, settings)
    check_key_file(settings.access.key_file)
    envoy = envoy_binary(args.envoy)
    listen = SocketAddress(ip_of(args.host), args.port)
    taken: list[socket.socket] = []
    try:
        listen = SocketAddress(listen.host, reserve(listen, "--port", taken))
        envoy_admin = SocketAddress(LOOPBACK, args.envoy_admin_port)
        envoy_admin = SocketAddress(LOOPBACK, reserve(envoy_admin, "--envoy-admin-port", taken))
        simulated = () if args.engine or existing else _simulated(args, taken)
        metadata = _metadata(args, run_directory, taken)
        workers = _workers(args.workers, _wanted_admin_port(args, settings), taken)
    finally:
        for one in taken:
            one.close()
    directories = _directories(run_directory, args.log_dir)
    given = given_engines(args.engine or ())
    return Plan(
        envoy=envoy,
        listen=listen,
        envoy_admin=envoy_admin,
        workers=workers,
        metadata=metadata,
        simulated=simulated,
        engine_addresses=given,
        fleet=existing or _write_fleet(directories, simulated, given, args.engine_api_key),
        note_keys=note_keys(settings, directories.run),
        admin_key=admin_key(settings, directories.run, listen.port),
        tls=mutual_tls(directories.run),
        directories=directories,
        settings=settings,
        config=args.config.absolute() if args.config else None,
        api_keys=tuple(args.api_key or ()),
        key_file=args.key_file.absolute() if args.key_file else None,
    )


def _metadata(args: argparse.Namespace, run_directory: Path, taken: list[socket.socket]) -> MetadataProcess | None:
    if args.no_metadata:
        if args.data is not None:
            raise LocalError("--data and --no-metadata exclude each other.", EXIT_USAGE)
        return None
    if any(importlib.util.find_spec(name) is None for name in ("sqlalchemy", "obstore", "multipart", "aiosqlite")):
        if args.data is not None:
            raise LocalError("--data needs an extra: in the clone run pip install -e '.[metadata]'.", EXIT_USAGE)
        return None
    data = args.data.absolute() if args.data is not None else run_directory / "data"
    is_kept = args.data is not None or args.run_dir is not None
    return MetadataProcess(free_port(taken), free_port(taken), data, is_kept)


def _simulated(args: argparse.Namespace, taken: list[socket.socket]) -> tuple[SimulatedEngine, ...]:
    models = dict(task_of(text) for text in args.model or [DEFAULT_MODEL])
    return tuple(
        SimulatedEngine(f"engine {number}", model, task, free_port(taken), _extra(args, role), role)
        for number, (model, task, role) in enumerate(
            ((model, task, role) for model, task in models.items() for role in _roles(args, task)), 1
        )
    )


def _roles(args: argparse.Namespace, task: str) -> Iterator[EngineRole]:
    """The roles of a model's engines."""
    prefills = args.prefill_engines or 0 if task in ("", Task.GENERATE) else 0
    yield from repeat(EngineRole.PREFILL, prefills)
    yield from repeat(
        EngineRole.DECODE if prefills else EngineRole.BOTH, DEFAULT_ENGINES if args.engines is None else args.engines
    )


def _extra(args: argparse.Namespace, role: EngineRole) -> tuple[str, ...]:
    connector = () if role is EngineRole.BOTH else ("--kv-connector", "--enable-prompt-tokens-details")
    return (*connector, *(args.simulate or ()))


def _wanted_admin_port(args: argparse.Namespace, settings: Settings) -> int | None:
    """The admin port that an option, the settings file or the environment names."""
    if args.admin_port is not None:
        return int(args.admin_port)
    return settings.admin.port if "port" in settings.admin.model_fields_set else None


def _workers(count: int, admin_port: int | None, taken: list[socket.socket]) -> tuple[GatewayWorker, ...]:
    if admin_port and admin_port + count - 1 > MAX_PORT:
        raise LocalError(f"--admin-port {admin_port} leaves no ports for {count} workers.", EXIT_USAGE)
    return tuple(
        GatewayWorker(
            f"gateway worker {number}",
            free_port(taken),
            reserve(SocketAddress(LOOPBACK, admin_port + number - 1 if admin_port else 0), "--admin-port", taken),
        )
        for number in range(1, count + 1)
    )


def _directories(run: Path, logs: Path | None) -> Directories:
    directories = Directories(run, logs.absolute() if logs else run / "logs", run / "endpoints")
    try:
        for one in (directories.run, directories.logs, directories.endpoints):
            one.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LocalError(f"Cannot write to {error.filename}: {(error.strerror or '').lower()}.") from error
    return directories


def _write_fleet(
    directories: Directories, simulated: Sequence[SimulatedEngine], given: Sequence[str], api_key: str | None
) -> Path:
    endpoints = [
        {"address": engine.address, "name": engine.name.replace(" ", "-")}
        | ({} if engine.role is EngineRole.BOTH else {"role": engine.role.value})
        for engine in simulated
    ]
    endpoints += [{"address": address} | ({"api_key": api_key} if api_key else {}) for address in given]
    path = directories.run / "fleet.yaml"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump({"endpoints": endpoints}, sort_keys=False), encoding="utf-8")
    return path
