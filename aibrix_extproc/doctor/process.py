"""The settings of a deployed process of ours, from its flags, variables and file, as far as objects show them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from aibrix_extproc.doctor.objects import Cluster, Thing, at, listed

ENV: Final = "AIBRIX_EXTPROC_"
COMMANDS: Final = ("serve", "picker")
METADATA: Final = "metadata"
Setting = tuple[str, str]  # group, field
# Options that `picker` has under other names, and settings that it sets by itself.
PICKER_FLAGS: Final[Mapping[Setting, str]] = MappingProxyType(
    {
        ("kubernetes", "inference_pool"): "--pool-name",
        ("kubernetes", "namespaces"): "--pool-namespace",
        ("server", "port"): "--grpc-port",
        ("server", "health_port"): "--grpc-health-port",
        ("admin", "port"): "--metrics-port",
    }
)
PICKER_DEFAULTS: Final[Mapping[Setting, str]] = MappingProxyType(
    {
        ("server", "host"): "0.0.0.0",
        ("server", "health_port"): "9003",
        ("admin", "host"): "0.0.0.0",
        ("admin", "port"): "9090",
        ("routing", "destinations"): "1",
    }
)


@dataclass(frozen=True, slots=True)
class Process:
    """One container of ours, with what tells it its settings."""

    deployment: Thing
    container: Mapping[str, Any]
    environment: Mapping[str, str]
    file: Mapping[str, Any]
    unseen: tuple[str, ...]  # where settings may stand that could not be read

    @property
    def is_picker(self) -> bool:
        """Whether it is an endpoint picker."""
        return "picker" in _words(self.container)

    @property
    def field(self) -> str:
        """The place of the container in its Deployment."""
        containers = self.deployment.items("spec.template.spec.containers")
        return f"spec.template.spec.containers[{containers.index(self.container) if self.container else 0}]"

    def setting(self, group: str, field: str, flag: str) -> str | None:
        """The value of a setting, lists with commas; None if it is not set or cannot be seen."""
        one = (group, field)
        flags = [flag, *([PICKER_FLAGS[one]] if self.is_picker and one in PICKER_FLAGS else [])]
        by_flag = _by_flag(self.container, flags)
        if by_flag:
            return ",".join(by_flag)
        by_environment = self.environment.get(f"{ENV}{group}__{field}".upper())
        if by_environment is not None:
            return by_environment
        by_file = at(self.file, f"{group}.{field}")
        if by_file is not None:
            return ",".join(map(_text, by_file)) if isinstance(by_file, list) else _text(by_file)
        return PICKER_DEFAULTS.get(one) if self.is_picker else None


def process_of(cluster: Cluster, deployment: Thing) -> Process:
    """The container that runs a command of ours: the first one that has our arguments, else the first."""
    containers = [one for one in deployment.items("spec.template.spec.containers") if isinstance(one, Mapping)]
    ours = [one for one in containers if {*COMMANDS, METADATA} & set(_words(one))]
    container = next(iter(ours or containers), {})
    unseen: list[str] = []
    environment = _environment(cluster, deployment, container, unseen)
    file: Mapping[str, Any] = {}
    for path in _by_flag(container, ["--config"])[-1:]:
        found = _file(cluster, deployment, container, path)
        if found is None:
            unseen.append(f"the file {path}")
        else:
            file = found
    return Process(deployment, container, environment, file, tuple(unseen))


def runs_us(deployment: Thing) -> bool:
    """Whether it runs `serve` or `picker` of our image, or of one that is called like it."""
    return _runs(deployment, COMMANDS)


def serves_metadata(deployment: Thing) -> bool:
    """Whether it runs `metadata` of our image, or of one that is called like it."""
    return _runs(deployment, (METADATA,))


def _runs(deployment: Thing, commands: tuple[str, ...]) -> bool:
    return any(
        set(commands) & set(_words(one)) and "aibrix-extproc" in str(at(one, "image"))
        for one in deployment.items("spec.template.spec.containers")
    )


def _words(container: Any) -> list[str]:
    return [str(word) for word in (*listed(container, "command"), *listed(container, "args"))]


def _by_flag(container: Mapping[str, Any], flags: list[str]) -> list[str]:
    """Each value that the arguments give a flag; one without a value is switched on."""
    words = _words(container)
    found = []
    for index, word in enumerate(words):
        name, given, value = word.partition("=")
        if name in flags:
            following = words[index + 1] if index + 1 < len(words) else ""
            found.append(value if given else following if following and not following.startswith("--") else "true")
    return found


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _environment(
    cluster: Cluster, deployment: Thing, container: Mapping[str, Any], unseen: list[str]
) -> Mapping[str, str]:
    """The variables; empty for one whose value comes from an object that is not read."""
    found: dict[str, str] = {}
    for one in listed(container, "envFrom"):
        name = at(one, "configMapRef.name")
        config = cluster.find("ConfigMap", deployment.namespace, str(name)) if name is not None else None
        if config is not None:
            prefix = str(at(one, "prefix") or "")
            found |= {f"{prefix}{key}": str(value) for key, value in config.mapping("data").items()}
        else:
            unseen.append(f"the ConfigMap {name}" if name is not None else f"the Secret {at(one, 'secretRef.name')}")
    for one in listed(container, "env"):
        value = at(one, "value")
        ref = at(one, "valueFrom.configMapKeyRef")
        config = cluster.find("ConfigMap", deployment.namespace, str(at(ref, "name"))) if ref is not None else None
        if config is not None:
            value = config.mapping("data").get(at(ref, "key"))
        found[str(at(one, "name"))] = str(value if value is not None else "")
    return found


def mounted(process: Process, path: str) -> Mapping[str, Any]:
    """The volume in which a path lies, with its `name`; empty if it lies in none."""
    deepest = ""
    found: Mapping[str, Any] = {}
    for mount in listed(process.container, "volumeMounts"):
        folder = str(at(mount, "mountPath")).rstrip("/")
        if (path == folder or path.startswith(f"{folder}/")) and len(folder) >= len(deepest):
            volumes = process.deployment.items("spec.template.spec.volumes")
            deepest, found = folder, next((one for one in volumes if at(one, "name") == at(mount, "name")), {})
    return found if isinstance(found, Mapping) else {}


def _file(cluster: Cluster, deployment: Thing, container: Mapping[str, Any], path: str) -> Mapping[str, Any] | None:
    """The settings in a file that is mounted from a ConfigMap; None if they cannot be read."""
    for mount in listed(container, "volumeMounts"):
        folder, part = str(at(mount, "mountPath")).rstrip("/"), at(mount, "subPath")
        if path == folder and part is not None:
            key = str(part)
        elif path.startswith(f"{folder}/") and part is None:
            key = path.removeprefix(f"{folder}/")
        else:
            continue
        for volume in deployment.items("spec.template.spec.volumes"):
            if at(volume, "name") == at(mount, "name") and at(volume, "configMap.name") is not None:
                for item in listed(volume, "configMap.items"):
                    key = str(at(item, "key")) if at(item, "path") == key else key
                return cluster.files.get((deployment.namespace, str(at(volume, "configMap.name")), key))
    return None
