"""What `aibrix-extproc local` is going to start, decided and checked before anything is started."""

import argparse
import importlib.util
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn

import yaml

from aibrix_extproc.adapters.envoyproxy.find import EnvoyNotFoundError, find_envoy
from aibrix_extproc.adapters.envoyproxy.spec import SocketAddress
from aibrix_extproc.adapters.fleetfile.parse import parse_flag, refuse_repeated
from aibrix_extproc.adapters.keyfile.source import read_keys
from aibrix_extproc.app.local.secrets import note_keys
from aibrix_extproc.app.local.tls import LocalTls, mutual_tls
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.core.nearest import did_you_mean
from aibrix_extproc.settings import Settings, SettingsError, Tree, load
from aibrix_extproc.simulator.cli import add_arguments as add_simulator_arguments

LOOPBACK: Final = "127.0.0.1"
DEFAULT_MODEL: Final = "sim-chat"
DEFAULT_ENGINES: Final = 2
DEFAULT_ENVOY_ADMIN_PORT: Final = 9901

# What a simulated model may do -> as `simulate --task` names it.
TASKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "chat": "generate",
        "embed": "embed",
        "rerank": "rerank",
        "score": "score",
        "classify": "classify",
        "audio": "transcription",
    }
)
MAX_PORT: Final = 65_535

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2


class LocalError(Exception):
    """Why `local` cannot start or go on: one sentence, and the exit code."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class SimulatedEngine:
    """An engine that we start ourselves."""

    name: str
    model: str
    task: str
    port: int
    extra: tuple[str, ...]  # more options of `aibrix-extproc simulate`

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
    """Where everything is written."""

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
    engine_addresses: tuple[str, ...]  # of engines that somebody else runs, as `host:port`
    fleet: Path
    note_keys: Path
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
    refuse_contradictions(args)
    settings = _settings(args)
    existing = _existing_fleet(args, settings)
    _check_key_file(settings.access.key_file)
    envoy = _envoy(args.envoy)
    listen = SocketAddress(_ip(args.host), args.port)
    taken: list[socket.socket] = []
    try:
        listen = SocketAddress(listen.host, _reserve(listen, "--port", taken))
        envoy_admin = SocketAddress(LOOPBACK, _envoy_admin_port(args.envoy_admin_port, taken))
        simulated = () if args.engine or existing else _simulated(args, taken)
        metadata = _metadata(args, run_directory, taken)
        workers = _workers(args.workers, _wanted_admin_port(args, settings), taken)
    finally:
        for one in taken:
            one.close()
    directories = _directories(run_directory, args.log_dir)
    given = _given_engines(args.engine or ())
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
    return MetadataProcess(_free_port(taken), _free_port(taken), data, is_kept)


def refuse_contradictions(args: argparse.Namespace) -> None:
    """Options that exclude each other, or need each other."""
    simulated = args.model or args.engines is not None or args.simulate
    kinds = {"--engine": bool(args.engine), "--fleet": bool(args.fleet), "--model, --engines, --simulate": simulated}
    given = [name for name, is_given in kinds.items() if is_given]
    if len(given) > 1:
        raise LocalError(f"{' and '.join(given)} exclude each other: choose one kind of engines.", EXIT_USAGE)
    check_simulate(args.simulate or ())
    if args.engine_api_key and not args.engine:
        raise LocalError("--engine-api-key is for engines named with --engine.", EXIT_USAGE)


def check_simulate(options: Sequence[str]) -> None:
    """Refuse --simulate options that the engines would refuse, before anything is started."""
    parser = _SimulateParser(add_help=False)
    add_simulator_arguments(parser)
    parser.parse_args(list(options))


class _SimulateParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        known = self._option_string_actions
        unknown = next((word for word in message.split() if word.startswith("--") and word not in known), "")
        hint = did_you_mean(unknown, known) if "unrecognized" in message else ""
        raise LocalError(f"--simulate: {message}{hint or '.'} `aibrix-extproc simulate --help` lists them.", EXIT_USAGE)


def _existing_fleet(args: argparse.Namespace, settings: Settings) -> Path | None:
    """A fleet file that somebody wrote: named with --fleet, or in the settings if no option names engines."""
    if settings.fleet.endpoints:
        raise LocalError("fleet.endpoints in the settings is not for `local`: use --engine or --fleet.", EXIT_USAGE)
    given = args.engine or args.model or args.simulate or args.engines is not None
    named: Path | None = args.fleet if args.fleet or given else settings.fleet.file
    if named is not None:
        _check_regular(named, f"There is no fleet file at {named}.")
    return named.absolute() if named else None


def _check_regular(path: Path, missing: str) -> None:
    """Refuse what cannot be followed: nothing there, a folder, or a pipe, which can be read once only."""
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise LocalError(f"{path} is {kind}; it must be a file that can be read again and again.", EXIT_USAGE)
    if not path.is_file():
        raise LocalError(missing, EXIT_USAGE)


def _check_key_file(path: Path | None) -> None:
    """Refuse a key file that workers could not read; they would wait for a better one and never become ready."""
    if path is None:
        return
    _check_regular(path, f"There is no key file at {path}; `aibrix-extproc keys new` makes one.")
    try:
        read_keys(path)
    except SourceError as error:
        raise LocalError(f"{error}.", EXIT_USAGE) from error


def _settings(args: argparse.Namespace) -> Settings:
    access: dict[str, Any] = {"api_keys": list(args.api_key)} if args.api_key else {}
    access |= {"key_file": args.key_file} if args.key_file else {}
    flags: Tree = {"access": access} if access else {}
    try:
        return load(file=args.config, flags=flags)
    except SettingsError as error:
        raise LocalError(str(error), EXIT_USAGE) from error


def _envoy(named: str | None) -> Path:
    try:
        envoy = find_envoy(named)
    except EnvoyNotFoundError as error:
        raise LocalError(str(error)) from error
    if importlib.util.find_spec("envoy_data_plane") is None:  # looked for, not imported: that takes a second
        raise LocalError("Envoy's configuration cannot be built: in the clone run pip install -e '.[local]'.")
    return envoy


def _ip(host: str) -> str:
    """Envoy listens on addresses, not names."""
    try:
        return str(ipaddress.ip_address(LOOPBACK if host == "localhost" else host))
    except ValueError as error:
        raise LocalError(
            f"--host {host} is not an IP address; for all interfaces write 0.0.0.0.", EXIT_USAGE
        ) from error


def _reserve(address: SocketAddress, option: str, taken: list[socket.socket]) -> int:
    """The port, 0 made a free one; held until the plan is made, so that no two parts get the same one.

    Checked here because two Envoys on one port would not fail: they would share its connections.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    probe = socket.socket(family, socket.SOCK_STREAM)
    taken.append(probe)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((address.host, address.port))
        probe.listen(1)  # without it a second bind would succeed as well
    except PermissionError as error:
        raise LocalError(f"Port {address.port} may not be used by this user; choose one with {option}.") from error
    except OSError as error:
        raise LocalError(
            f"Cannot listen on {address}: {(error.strerror or str(error)).lower()}; choose another port with {option}."
        ) from error
    return int(probe.getsockname()[1])


def _free_port(taken: list[socket.socket]) -> int:
    return _reserve(SocketAddress(LOOPBACK, 0), "--port", taken)


def _envoy_admin_port(wanted: int | None, taken: list[socket.socket]) -> int:
    """A port that was asked for must be free; the default one gives way."""
    if wanted is not None:
        return _reserve(SocketAddress(LOOPBACK, wanted), "--envoy-admin-port", taken)
    try:
        return _reserve(SocketAddress(LOOPBACK, DEFAULT_ENVOY_ADMIN_PORT), "--envoy-admin-port", taken)
    except LocalError:
        return _free_port(taken)


def _simulated(args: argparse.Namespace, taken: list[socket.socket]) -> tuple[SimulatedEngine, ...]:
    each = DEFAULT_ENGINES if args.engines is None else args.engines
    models = dict(task_of(text) for text in args.model or [DEFAULT_MODEL])
    return tuple(
        SimulatedEngine(f"engine {number}", model, task, _free_port(taken), tuple(args.simulate or ()))
        for number, (model, task) in enumerate((one for one in models.items() for _ in range(each)), 1)
    )


def task_of(text: str) -> tuple[str, str]:
    """`NAME=TASK`: the model and the task as `simulate --task` takes it, "" without one."""
    model, equals, task = text.partition("=")
    if not model.strip():
        raise LocalError(f"--model {text!r} has no name; write NAME or NAME=TASK.", EXIT_USAGE)
    if equals and task not in TASKS:
        sentence = f"--model {text}: a task is one of {', '.join(TASKS)}"
        raise LocalError(sentence + (did_you_mean(task, TASKS) or "."), EXIT_USAGE)
    return model.strip(), TASKS[task] if equals else ""


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
            _free_port(taken),
            _reserve(SocketAddress(LOOPBACK, admin_port + number - 1 if admin_port else 0), "--admin-port", taken),
        )
        for number in range(1, count + 1)
    )


def _given_engines(urls: Sequence[str]) -> tuple[str, ...]:
    try:
        return tuple(str(entry.at) for entry in refuse_repeated([parse_flag(url) for url in urls]))
    except SourceError as error:
        raise LocalError(str(error).replace("--endpoint", "--engine"), EXIT_USAGE) from error


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
    endpoints = [{"address": engine.address, "name": engine.name.replace(" ", "-")} for engine in simulated]
    endpoints += [{"address": address} | ({"api_key": api_key} if api_key else {}) for address in given]
    path = directories.run / "fleet.yaml"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump({"endpoints": endpoints}, sort_keys=False), encoding="utf-8")
    return path
