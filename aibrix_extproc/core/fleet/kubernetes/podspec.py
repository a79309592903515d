"""Translates a pod, with AIBrix's labels and annotations, into endpoints. What cannot be read becomes a warning.

A pod that is not ready, has no address yet or is being deleted is an endpoint too, one that is not picked: its models
exist, so a request for them is a 503, not a 404.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import msgspec

from aibrix_extproc.core.fleet.kubernetes.objects import Container, KubeObject, Pod, PodSpec, annotations_of, labels_of
from aibrix_extproc.core.fleet.model import Endpoint, Health, ServedModel
from aibrix_extproc.core.fleet.modelconfig import InvalidConfig, ModelConfig, parse_config
from aibrix_extproc.core.fleet.roles import (
    AIBRIX_ROLE,
    AIBRIX_ROLE_SET,
    ENCODER,
    LLM_D_ROLE,
    EngineRole,
    role_of,
    role_set_of,
)

MODEL: Final = "model.aibrix.ai/name"
PORT: Final = "model.aibrix.ai/port"
METRIC_PORT: Final = "model.aibrix.ai/metric-port"
ENGINE: Final = "model.aibrix.ai/engine"
CONFIG: Final = "model.aibrix.ai/config"
ADAPTERS_ENABLED: Final = "adapter.model.aibrix.ai/enabled"
RAY_NODE_TYPE: Final = "ray.io/node-type"
POD_GROUP_INDEX: Final = "stormservice.orchestration.aibrix.ai/pod-group-index"
DATA_PARALLEL_SIZE: Final = "data-parallel-size"
MAX_SEQUENCES: Final = "--max-num-seqs"
RUNTIME_CONTAINER: Final = "aibrix-runtime"  # AIBrix's sidecar, by which its controller knows it, too
RUNTIME_PORT: Final = 8080

# key: where it stands, meaning, default; for the reference page
LABELS: Final[Mapping[str, tuple[str, str, str]]] = MappingProxyType(
    {
        MODEL: ("label, else annotation", "a name of the model, which groups pods: see below", "none"),
        PORT: ("label", "port of the engine; of its rank 0 with data parallelism", "8000"),
        METRIC_PORT: ("label", "port of the engine's metrics, which some strategies read", "the engine's"),
        ENGINE: ("label, else annotation", "vllm, sglang, trtllm, xllm, xdit or vllm-omni", "vllm"),
        CONFIG: ("annotation", "how requests for its models are routed, a JSON object: see below", "none"),
        ADAPTERS_ENABLED: ("label", "whether the pod takes LoRA adapters; only `true` does", "unset: it may"),
        RAY_NODE_TYPE: ("label", "pods with the value `worker` are left out: the head serves", "unset"),
        POD_GROUP_INDEX: ("label", "pods with an index over 0 are left out: index 0 serves", "unset"),
        AIBRIX_ROLE: ("label", "`prefill` or `decode`: which half of requests the engine computes (AIBrix)", "both"),
        AIBRIX_ROLE_SET: ("label", "engines of one role set take each other's KV cache over (AIBrix)", "one set"),
        LLM_D_ROLE: ("label", "the same as role-name, for llm-d: `prefill`, `decode`, `both`; it goes first", "both"),
        DATA_PARALLEL_SIZE: ("variable of a container", "number of ranks, each an endpoint: port, port + 1, ...", "1"),
        MAX_SEQUENCES: ("argument of a container", "requests that the engine runs at once, for the queue", "learned"),
    }
)

# Those of an InferencePool: which of its ports a pod uses; the second is the first one's old name.
ACTIVE_PORTS: Final = ("llm-d.ai/active-ports", "inference.networking.k8s.io/active-ports")
READ_ANNOTATIONS: Final = frozenset({MODEL, ENGINE, CONFIG, *ACTIVE_PORTS})

DEFAULT_PORT: Final = 8000
DEFAULT_ENGINE: Final = "vllm"
ENGINES: Final = frozenset({"vllm", "sglang", "trtllm", "xllm", "xdit", "vllm-omni"})
MAX_RANKS: Final = 64
_MAX_SEQUENCES: Final = re.compile(r"--max[-_]num[-_]seqs[ =]+([0-9]{1,6})(?![0-9.])")  # as vLLM's parser takes it
MAX_NAME_CHARACTERS: Final = 256
MAX_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class Translation:
    """The endpoints of an object. `left_out`: why it has none although nothing is wrong with it."""

    endpoints: tuple[Endpoint, ...] = ()
    warnings: tuple[str, ...] = ()
    left_out: str = ""


class Unusable(ValueError):
    """An object has something that cannot be used; never leaves the translation."""


@dataclass(frozen=True, slots=True)
class Traits:
    """Facts from labels and annotations, the same for pods and slices."""

    group: str
    models: tuple[ServedModel, ...]
    engine: str
    config: ModelConfig | None
    role: EngineRole
    role_set: str
    warnings: tuple[str, ...]

    @property
    def annotations(self) -> Mapping[str, str]:
        """The annotations that an endpoint keeps."""
        return MappingProxyType({} if self.config is None else {CONFIG: self.config.text})


def translate_pod(pod: Pod, ports: tuple[int, ...] | None = None) -> Translation:
    """The endpoints of a pod: on these ports, an InferencePool's, or on those that its own labels name."""
    left_out = _left_out(pod)
    if left_out:
        return Translation(left_out=left_out)
    try:
        traits = traits_of(pod)
        numbers = _own_ports(pod) if ports is None else ports
        ip = address_of(pod.status.pod_ip) if pod.status.pod_ip else ""
    except Unusable as error:
        return Translation(warnings=(f"left out: {error}",))
    health = _health(pod, must_poll=not traits.models)
    return Translation(tuple(_endpoint(pod, traits, (ip, port), health) for port in numbers), warnings=traits.warnings)


def slimmed(one: KubeObject) -> KubeObject:
    """The object with only those annotations and variables that are read, for keeping thousands of them."""
    kept = {key: value for key, value in annotations_of(one).items() if key in READ_ANNOTATIONS}
    metadata = msgspec.structs.replace(one.metadata, annotations=kept or None)
    if not isinstance(one, Pod):
        return msgspec.structs.replace(one, metadata=metadata)
    variables = [
        variable
        for container in one.spec.containers or ()
        for variable in container.env or ()
        if variable.name == DATA_PARALLEL_SIZE
    ]
    kept_containers = [Container(env=variables)] if variables else []
    sequences = _max_sequences(one)
    kept_containers += [] if sequences is None else [Container(args=[MAX_SEQUENCES, str(sequences)])]
    kept_containers += [Container(RUNTIME_CONTAINER)] if _has_runtime(one) else []
    spec = PodSpec(kept_containers) if kept_containers else PodSpec()
    return msgspec.structs.replace(one, metadata=metadata, spec=spec)


def traits_of(one: KubeObject) -> Traits:
    """Model, engine and configuration of a pod or slice. Raises Unusable where nothing sensible can be served."""
    labels, annotations = labels_of(one), annotations_of(one)
    warnings: list[str] = []
    name = labels.get(MODEL, annotations.get(MODEL))
    engine = labels.get(ENGINE, annotations.get(ENGINE, DEFAULT_ENGINE))
    if engine not in ENGINES:
        warnings.append(f"{ENGINE}: unknown engine {shown(engine)}, treated as {DEFAULT_ENGINE}")
        engine = DEFAULT_ENGINE
    if METRIC_PORT in labels:
        try:
            port_number(METRIC_PORT, labels[METRIC_PORT])
        except Unusable as error:
            warnings.append(f"{error}, the engine's port is used")
    role, wrong = role_of(labels)
    if wrong:
        warnings.append(f"{wrong}, treated as {role.value}")
    return Traits(
        group=name or "",
        models=() if name is None else (ServedModel(model_name(MODEL, name)),),
        engine=engine,
        config=_config(annotations, warnings),
        role=role,
        role_set=role_set_of(labels),
        warnings=tuple(warnings),
    )


def model_name(where: str, name: str) -> str:
    """A model's name, which clients send in JSON and Envoy writes into headers."""
    if not (0 < len(name) <= MAX_NAME_CHARACTERS and name.isascii() and name.isprintable() and " " not in name):
        raise Unusable(f"{where}: {shown(name)} is no name of a model (1 to 256 visible ASCII characters)")
    return name


def port_number(where: str, text: str) -> int:
    """A port as a label gives it."""
    # Not int() alone: it takes "8_000", " 8000" and digits of other scripts.
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) <= MAX_PORT and len(text) <= 5):
        raise Unusable(f"{where}: {shown(text)} is no port (1 to {MAX_PORT})")
    return int(text)


def address_of(ip: str) -> str:
    """An IP address as Envoy writes it, IPv6 in brackets."""
    try:
        parsed = ipaddress.ip_address(ip)
    except ValueError as error:
        raise Unusable(f"{shown(ip)} is no IP address") from error
    if parsed.is_unspecified or parsed.is_multicast or "%" in ip:
        raise Unusable(f"{shown(ip)} is no address of an engine")
    return f"[{parsed}]" if parsed.version == 6 else str(parsed)


def shown(text: str) -> str:
    """A foreign value in a message: quoted, escaped, short."""
    return repr(text if len(text) <= 64 else text[:61] + "...")


def identity_of(uid: str, ip: str, port: int) -> str:
    """Uid, address and port: a pod that gets another address is another endpoint, as one with another uid is."""
    return f"{uid}@{ip}:{port}"


def _left_out(pod: Pod) -> str:
    labels = labels_of(pod)
    if labels.get(RAY_NODE_TYPE) == "worker":
        return "a Ray worker: the head serves"
    if labels.get(LLM_D_ROLE) == ENCODER:
        return "an encoder: no request goes to one"
    index = labels.get(POD_GROUP_INDEX, "0")
    if index != "0":
        return f"pod {shown(index)} of its group: pod 0 serves"
    if pod.status.phase in ("Succeeded", "Failed"):
        return f"has ended ({pod.status.phase})"  # keeps its address, which may be another pod's by now
    return ""


def _own_ports(pod: Pod) -> tuple[int, ...]:
    labels = labels_of(pod)
    first = port_number(PORT, labels[PORT]) if PORT in labels else DEFAULT_PORT
    ranks = _ranks(pod)
    if first + ranks - 1 > MAX_PORT:
        raise Unusable(f"{PORT}: {ranks} ranks from port {first} on go beyond port {MAX_PORT}")
    return tuple(range(first, first + ranks))


def _ranks(pod: Pod) -> int:
    for container in pod.spec.containers or ():
        for variable in container.env or ():
            if variable.name == DATA_PARALLEL_SIZE and variable.value:
                text = variable.value
                if not (text.isascii() and text.isdigit() and 0 < int(text[:4]) <= MAX_RANKS):
                    raise Unusable(f"variable {DATA_PARALLEL_SIZE}: {shown(text)} is not 1 to {MAX_RANKS}")
                return int(text)
    return 1


def _max_sequences(pod: Pod) -> int | None:
    """Of the command line of a container, which may be the text of a shell; None if there is no sensible number."""
    for container in pod.spec.containers or ():
        found = _MAX_SEQUENCES.findall(" ".join((*(container.command or ()), *(container.args or ()))))
        if found and int(found[-1]) > 0:
            return int(found[-1])
    return None


def _has_runtime(pod: Pod) -> bool:
    return any(container.name == RUNTIME_CONTAINER for container in pod.spec.containers or ())


def _config(annotations: Mapping[str, str], warnings: list[str]) -> ModelConfig | None:
    text = annotations.get(CONFIG)
    if text is None:
        return None
    try:
        config = parse_config(text)
    except InvalidConfig as error:
        warnings.append(f"{CONFIG}: {error}; served without profiles")
        return None
    if config.without_effect:
        warnings.append(f"{CONFIG}: without effect here: {shown(', '.join(config.without_effect))}")
    return config


def _health(pod: Pod, *, must_poll: bool) -> tuple[Health, str]:
    """Kubernetes' readiness counts at once. An engine whose models are unknown is polled before it is picked."""
    if pod.metadata.deletion_timestamp is not None:
        return Health.DRAINING, "the pod is being deleted"
    if not pod.status.pod_ip:
        return Health.NOT_READY, "the pod has no address yet"
    ready = next((one for one in pod.status.conditions or () if one.type == "Ready"), None)
    if ready is None or ready.status != "True":
        reason = ready.reason if ready is not None else None
        return Health.NOT_READY, f"the pod is not ready{f': {reason}' if reason else ''}"
    return Health.UNKNOWN if must_poll else Health.READY, ""


def endpoint_of(
    one: KubeObject, traits: Traits, place: tuple[str, int], health: tuple[Health, str], *, name: str = ""
) -> Endpoint:
    """The endpoint of a pod or a slice. A pod has an empty IP until it has one; an empty name is the object's."""
    ip, port = place
    return Endpoint(
        identity=identity_of(one.metadata.uid, ip, port),
        address=f"{ip}:{port}" if ip else "",
        name=f"{one.metadata.namespace}/{name or one.metadata.name}",
        engine=traits.engine,
        labels=MappingProxyType(dict(labels_of(one))),
        annotations=traits.annotations,
        config=traits.config,
        group=traits.group,
        models=traits.models,
        role=traits.role,
        role_set=traits.role_set,
        health=health[0],
        detail=health[1],
    )


def _endpoint(pod: Pod, traits: Traits, place: tuple[str, int], health: tuple[Health, str]) -> Endpoint:
    runtime = f"{place[0]}:{RUNTIME_PORT}" if place[0] and _has_runtime(pod) else ""
    endpoint = endpoint_of(pod, traits, place, health)
    return replace(endpoint, pod_uid=pod.metadata.uid, runtime=runtime, max_sequences=_max_sequences(pod))
