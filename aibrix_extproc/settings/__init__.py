"""Every knob, declared once: YAML file < environment < flags. The only reader of the environment.

Each group is frozen; unknown keys are errors. A field's description is its documentation: `docs/configuration.md`
and the help texts are made of it. `flag` names a command-line option other than `--<group>-<field>`.
"""

import json
import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
)

from aibrix_extproc.core.nearest import did_you_mean
from aibrix_extproc.core.placing import ATTEMPTS
from aibrix_extproc.core.routing.registry import DEFAULT_STRATEGY, NOT_HERE, STRATEGIES
from aibrix_extproc.settings.fields import (
    MIB,
    ApiKey,
    Group,
    HealthPath,
    MediaHost,
    Name,
    Port,
    PortName,
    Seconds,
    ServiceName,
    flag,
)
from aibrix_extproc.settings.metadata import MetadataSettings
from aibrix_extproc.settings.mistakes import told
from aibrix_extproc.settings.server import ServerSettings as ServerSettings
from aibrix_extproc.settings.server import Tls as Tls
from aibrix_extproc.settings.server import Transport as Transport
from aibrix_extproc.watched import depth

ENV_PREFIX: Final = "AIBRIX_EXTPROC_"
ENV_NESTED_DELIMITER: Final = "__"

_SERVICE_LINK: Final = re.compile(r"(\w+_)?(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP|SCTP)\w*)=.*|(\w+_)?PORT=\w+://.*")


class SettingsError(Exception):
    """The configuration cannot be used; the message says where and what to do."""


def _strategy_here(name: str) -> str:
    if name not in STRATEGIES:
        nearest = f"; {NOT_HERE[name]} comes nearest to AIBrix's {name}" if name in NOT_HERE else ""
        nearest = nearest or did_you_mean(name, STRATEGIES)
        raise ValueError(f"must be one of {', '.join(STRATEGIES)}{nearest}")
    return name


class LogFormat(StrEnum):
    """How log lines look."""

    JSON = "json"
    TEXT = "text"


class LogLevel(StrEnum):
    """The least important line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class AdminSettings(Group):
    """The HTTP listener for operators: metrics, health and the fleet. Never reachable through Envoy."""

    host: str = Field("127.0.0.1", description="address to listen on", json_schema_extra=flag("--admin-host"))
    port: Port = Field(9003, description="port of the admin server", json_schema_extra=flag("--admin-port"))


class FleetSettings(Group):
    """Where endpoints come from, and how engines are asked what they serve."""

    file: Path | None = Field(
        None, description="YAML file with endpoints, watched and reloaded", json_schema_extra=flag("--fleet")
    )
    endpoints: tuple[str, ...] = Field(
        (), description="endpoints as http://HOST:PORT, with =MODEL,MODEL to fix what one serves",
        json_schema_extra=flag("--endpoint"),
    )  # fmt: skip
    engine_api_key: SecretStr | None = Field(
        None, description="key sent to engines that have none of their own", json_schema_extra=flag("--engine-api-key")
    )
    poll_seconds: Seconds = Field(2.0, description="how often a ready engine is asked for its models and health")
    poll_timeout_seconds: Seconds = Field(2.0, description="how long an engine may take to answer that")


class KubernetesSettings(Group):
    """The fleet from a Kubernetes API: pods by AIBrix's labels, or those of an InferencePool."""

    enabled: bool = Field(
        False, description="watch pods (needs the extra `kubernetes`)", json_schema_extra=flag("--kubernetes")
    )
    kubeconfig: Path | None = Field(
        None, description="kubeconfig file; without it the pod's service account, else the user's kubeconfig",
        json_schema_extra=flag("--kubeconfig"),
    )  # fmt: skip
    context: Name | None = Field(
        None, description="context of the kubeconfig; its current one if none is named",
        json_schema_extra=flag("--kube-context"),
    )  # fmt: skip
    namespaces: tuple[Name, ...] = Field(
        (), description="namespaces to watch, * for all; the one we run in, or the context's, if none is named",
        json_schema_extra=flag("--namespace"),
    )  # fmt: skip
    pod_selector: Name = Field(
        "model.aibrix.ai/name", description="which pods, as kubectl's -l takes it; the API server selects",
        json_schema_extra=flag("--pod-selector"),
    )  # fmt: skip
    inference_pool: Name | None = Field(
        None, description="take pods and ports of this InferencePool, in the first namespace, in place of the selector",
        json_schema_extra=flag("--inference-pool"),
    )  # fmt: skip
    slice_selector: Name | None = Field(
        None, description="which EndpointSlices have engines outside of pods, but for our own; none without it",
        json_schema_extra=flag("--slice-selector"),
    )  # fmt: skip
    publish_service: ServiceName | None = Field(
        None,
        description="Service without a selector, in our own namespace, whose EndpointSlices we write: every engine of"
        " the fleet becomes its endpoint, so that Envoy Gateway's routes reach it; none are written without it",
        json_schema_extra=flag("--publish-service"),
    )
    publish_port_name: PortName = Field("http", description="name of that Service's port; empty if it has none")
    lease_name: ServiceName = Field(
        "aibrix-extproc-publisher", description="Lease by which replicas agree on who writes these EndpointSlices"
    )
    model_adapters: bool = Field(True, description="watch AIBrix's ModelAdapters where their kind is installed")
    page_size: int = Field(250, ge=1, le=10_000, description="objects asked for at once in a listing")
    silence_seconds: Seconds = Field(
        90.0, description="a watch that is silent this long is begun anew; bookmarks come once a minute"
    )


class RoutingSettings(Group):
    """How an endpoint is picked."""

    strategy: Annotated[str, AfterValidator(_strategy_here)] = Field(
        DEFAULT_STRATEGY, description=f"strategy when the client names none: {', '.join(STRATEGIES)}",
        json_schema_extra=flag("--strategy"),
    )  # fmt: skip
    destinations: int = Field(
        ATTEMPTS, ge=1, le=16,
        description="addresses in the destination header, one per attempt of Envoy, repeated where there are fewer; "
        "1 for data planes that read one address only",
        json_schema_extra=flag("--destinations"),
    )  # fmt: skip


class PickerSettings(Group):
    """Serving as an endpoint picker of the Gateway API Inference Extension; the command `picker` sets the first."""

    assume_duplex: bool = Field(
        False,
        description="a data plane that does not say how it sends bodies streams them both ways (FULL_DUPLEX_STREAMED)",
    )
    test_mode: bool = Field(
        False,
        description="be the picker of the extension's conformance tests: any request to any endpoint, or to the one "
        "that a request header names; never in production",
        json_schema_extra=flag("--test-mode"),
    )


class LimitSettings(Group):
    """Bounds on what a client may send."""

    max_body_bytes: int = Field(
        50 * MIB, ge=1024, le=1024 * MIB,
        description="largest request body; Envoy's buffer limits must be at least this",
        json_schema_extra=flag("--max-body-bytes"),
    )  # fmt: skip
    max_audio_bytes: int = Field(
        25 * MIB, ge=1024, le=1024 * MIB,
        description="largest form with audio, all of it counted, within max_body_bytes; OpenAI takes 25 MiB",
    )  # fmt: skip
    max_wait_seconds: Seconds = Field(
        600.0,
        description="longest wait for the head of an answer; a client may ask for less by x-stainless-read-timeout",
        json_schema_extra=flag("--max-wait-seconds"),
    )
    media_hosts: tuple[MediaHost, ...] = Field(
        (), description="hosts whose URLs of images, audio, video and files a request may name, as patterns: `*` is"
        " every public host, `*.example.com` those of a domain, inner names and addresses are listed in full; without"
        " it engines decide, and fetch from anywhere unless started with --allowed-media-domains",
        json_schema_extra=flag("--media-host"),
    )  # fmt: skip


class HealthSettings(Group):
    """What load balancers in front of Envoy may ask."""

    path: HealthPath = Field(
        "/healthz",
        description="path that Envoy answers without a key: 200 while requests can be served, else 503; empty for none",
        json_schema_extra=flag("--health-path"),
    )


class MeteringSettings(Group):
    """Counting tokens. Needs the stream filter and the access log service in Envoy's configuration."""

    enabled: bool = Field(
        False,
        description="ask engines for the usage of every stream; Envoy's filter hides it from clients that did not ask",
        json_schema_extra=flag("--metering"),
    )
    note_keys: Path | None = Field(
        None,
        description="file of secrets that all replicas share, one a line; the first seals what Envoy's access log"
        " brings back, and the ids of responses, by which every replica finds their engine; all are accepted; reloaded."
        " Without it each process has a random key of its own, which is right for one replica only",
        json_schema_extra=flag("--note-keys"),
    )


class AccessSettings(Group):
    """Who may call."""

    api_keys: tuple[ApiKey, ...] = Field(
        (), description="keys that are accepted; none, and no key file, means everyone is",
        json_schema_extra=flag("--api-key"),
    )  # fmt: skip
    key_file: Path | None = Field(
        None, description="YAML file with callers and the hashes of their keys, watched and reloaded; see `keys`",
        json_schema_extra=flag("--key-file"),
    )  # fmt: skip
    engine_controls: bool = Field(
        False, description="callers that are in no key file (everyone without keys, and api_keys) may steer engines"
    )


class LogSettings(Group):
    """What is written to standard error. Prompts and keys never are."""

    level: LogLevel = Field(
        LogLevel.INFO, description="least important line written", json_schema_extra=flag("--log-level")
    )
    format: LogFormat = Field(LogFormat.JSON, description="one JSON object a line, or text for people",
                              json_schema_extra=flag("--log-format"))  # fmt: skip
    exchanges: bool = Field(
        False, description="a line for every exchange, not only for those that failed",
        json_schema_extra=flag("--log-exchanges"),
    )  # fmt: skip


class Settings(Group):
    """All groups."""

    server: ServerSettings = ServerSettings()
    admin: AdminSettings = AdminSettings()
    fleet: FleetSettings = FleetSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    routing: RoutingSettings = RoutingSettings()
    limits: LimitSettings = LimitSettings()
    health: HealthSettings = HealthSettings()
    picker: PickerSettings = PickerSettings()
    access: AccessSettings = AccessSettings()
    metering: MeteringSettings = MeteringSettings()
    metadata: MetadataSettings = MetadataSettings()
    log: LogSettings = LogSettings()


Tree = dict[str, dict[str, Any]]
GROUPS: Final = tuple(Settings.model_fields)


def read_file(path: Path) -> Tree:
    """The settings file as nested mappings, structure checked, values not yet."""
    try:
        content = depth.load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8; save it as UTF-8") from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{path}{line} is not valid YAML: {problem or error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(group, dict) for group in content.values()):
        raise SettingsError(f"{path}: expected groups of settings ({', '.join(GROUPS)}), each a mapping")
    return content


def read_environment(environment: dict[str, str] | None = None) -> Tree:
    """Settings from variables such as AIBRIX_EXTPROC_SERVER__PORT; lists are comma-separated, or JSON."""
    tree: Tree = {}
    for name, value in (dict(os.environ) if environment is None else environment).items():  # noqa: TID251 (the one reader)
        if not name.startswith(ENV_PREFIX) or not value:
            continue
        group, delimiter, field = name.removeprefix(ENV_PREFIX).lower().partition(ENV_NESTED_DELIMITER)
        if not delimiter and _SERVICE_LINK.fullmatch(f"{name.removeprefix(ENV_PREFIX)}={value}"):
            continue  # Kubernetes describes a Service of our name to every pod beside it
        if not delimiter:
            raise SettingsError(f"{name}: expected {ENV_PREFIX}<GROUP>{ENV_NESTED_DELIMITER}<FIELD>")
        tree.setdefault(group, {})[field] = _items(value) if _is_list(group, field) else value
    return tree


def environment_with(tree: Tree) -> dict[str, str]:
    """The environment of a process that we start, with settings added: its arguments are open to other users."""
    found = dict(os.environ)  # noqa: TID251 (the one reader)
    for group, fields in tree.items():
        for field, value in fields.items():
            name = f"{ENV_PREFIX}{group}{ENV_NESTED_DELIMITER}{field}".upper()
            found[name] = json.dumps(value) if _is_list(group, field) else str(value)
    return found


def _items(value: str) -> list[str]:
    """A list as JSON, which may hold commas, or as texts between commas."""
    try:
        found = json.loads(value) if value.startswith("[") else None
    except ValueError:
        found = None
    if isinstance(found, list) and all(isinstance(one, str) for one in found):
        return found
    return value.split(",")


def _is_list(group: str, field: str) -> bool:
    model = Settings.model_fields.get(group)
    declared = model.annotation.model_fields.get(field) if model and model.annotation else None
    return declared is not None and str(declared.annotation).startswith("tuple")


def load(*, file: Path | None = None, flags: Tree | None = None, environment: dict[str, str] | None = None) -> Settings:
    """The effective settings. Raises SettingsError with one line per mistake."""
    return build(sources(file=file, flags=flags, environment=environment))


def sources(
    *, file: Path | None = None, flags: Tree | None = None, environment: dict[str, str] | None = None
) -> dict[str, Tree]:
    """What each source says, from low precedence to high."""
    return {
        "file": read_file(file) if file is not None else {},
        "environment": read_environment(environment),
        "flag": flags or {},
    }


def build(by_source: dict[str, Tree]) -> Settings:
    """Merge and validate."""
    merged: Tree = {}
    for tree in by_source.values():
        for group, fields in tree.items():
            merged.setdefault(group, {}).update(fields)
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        known = {name: one.annotation.model_fields for name, one in Settings.model_fields.items() if one.annotation}
        lines = [told(one["loc"], one["type"], one["msg"], one.get("ctx", {}), known) for one in error.errors()]
        raise SettingsError("the settings are not valid:\n  " + "\n  ".join(lines)) from error
