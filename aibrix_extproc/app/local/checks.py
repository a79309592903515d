"""Checks of the options of `local`, before anything is started: LocalError says what is wrong with them."""

import argparse
import importlib.util
import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn

from aibrix_extproc.adapters.envoyproxy.find import EnvoyNotFoundError, find_envoy
from aibrix_extproc.adapters.fleetfile.parse import parse_flag, refuse_repeated
from aibrix_extproc.adapters.keyfile.source import read_keys
from aibrix_extproc.app.local.errors import EXIT_USAGE, LocalError
from aibrix_extproc.app.local.ports import LOOPBACK
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.core.nearest import did_you_mean
from aibrix_extproc.settings import Settings, SettingsError, Tree, load
from aibrix_extproc.simulator.cli import add_arguments as add_simulator_arguments

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


def refuse_conflicts(args: argparse.Namespace) -> None:
    """Options that exclude each other, or need each other."""
    simulated = args.model or args.engines is not None or args.prefill_engines is not None or args.simulate
    kinds = {
        "--engine": bool(args.engine),
        "--fleet": bool(args.fleet),
        "--model, --engines, --prefill-engines, --simulate": simulated,
    }
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


def existing_fleet(args: argparse.Namespace, settings: Settings) -> Path | None:
    """A fleet file of the user: named with --fleet, or in the settings if no option names engines."""
    if settings.fleet.endpoints or settings.fleet.prefill_endpoints:
        raise LocalError("fleet.endpoints in the settings is not for `local`: use --engine or --fleet.", EXIT_USAGE)
    given = args.engine or args.model or args.simulate or args.engines is not None or args.prefill_engines is not None
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


def check_key_file(path: Path | None) -> None:
    """Refuse a key file that workers could not read; they would wait for a better one and never become ready."""
    if path is None:
        return
    _check_regular(path, f"There is no key file at {path}; `aibrix-extproc keys new` makes one.")
    try:
        read_keys(path)
    except SourceError as error:
        raise LocalError(f"{error}.", EXIT_USAGE) from error


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings of file, environment and options."""
    access: dict[str, Any] = {"api_keys": list(args.api_key)} if args.api_key else {}
    access |= {"key_file": args.key_file} if args.key_file else {}
    flags: Tree = {"access": access} if access else {}
    try:
        return load(file=args.config, flags=flags)
    except SettingsError as error:
        raise LocalError(str(error), EXIT_USAGE) from error


def envoy_binary(named: str | None) -> Path:
    """Envoy, which can also be configured here."""
    try:
        envoy = find_envoy(named)
    except EnvoyNotFoundError as error:
        raise LocalError(str(error)) from error
    if importlib.util.find_spec("envoy_data_plane") is None:  # not imported, which takes a second
        raise LocalError("Envoy's configuration cannot be built: in the clone run pip install -e '.[local]'.")
    return envoy


def ip_of(host: str) -> str:
    """Envoy listens on addresses, not names."""
    try:
        return str(ipaddress.ip_address(LOOPBACK if host == "localhost" else host))
    except ValueError as error:
        raise LocalError(
            f"--host {host} is not an IP address; for all interfaces write 0.0.0.0.", EXIT_USAGE
        ) from error


def task_of(text: str) -> tuple[str, str]:
    """`NAME=TASK`: the model and the task as `simulate --task` takes it, "" without one."""
    model, equals, task = text.partition("=")
    if not model.strip():
        raise LocalError(f"--model {text!r} has no name; write NAME or NAME=TASK.", EXIT_USAGE)
    if equals and task not in TASKS:
        sentence = f"--model {text}: a task is one of {', '.join(TASKS)}"
        raise LocalError(sentence + (did_you_mean(task, TASKS) or "."), EXIT_USAGE)
    return model.strip(), TASKS[task] if equals else ""


def given_engines(urls: Sequence[str]) -> tuple[str, ...]:
    """The addresses of engines that --engine names."""
    try:
        return tuple(str(entry.at) for entry in refuse_repeated([parse_flag(url) for url in urls]))
    except SourceError as error:
        raise LocalError(str(error).replace("--endpoint", "--engine"), EXIT_USAGE) from error
