"""Kubernetes objects as far as we read them; parsing skips the rest, managedFields first of all.

The API writes null where a list is empty, so every container may be None.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeVar

import msgspec

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
T = TypeVar("T")


class _Part(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The base of all parts: immutable, named in camel case, unknown fields skipped, defaults not written."""


class Metadata(_Part, frozen=True):
    """The identity of an object: name, namespace, labels."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class KubeObject(_Part, frozen=True):
    """Anything that can be listed and watched."""

    metadata: Metadata = Metadata()

    @property
    def subject(self) -> str:
        """The name of the object for people and tables: `Pod llm/vllm-0`."""
        return subject_of(type(self), self.metadata.namespace, self.metadata.name)


def subject_of(kind: type[KubeObject], namespace: str, name: str) -> str:
    """The subject of an object that is not at hand."""
    return f"{kind.__name__} {namespace}/{name}"


class EnvVar(_Part, frozen=True):
    """One variable of a container."""

    name: str = ""
    value: str | None = None


class Container(_Part, frozen=True):
    """A container's name, variables and command line."""

    name: str = ""
    command: list[str] | None = None
    args: list[str] | None = None
    env: list[EnvVar] | None = None


class PodSpec(_Part, frozen=True):
    """The specification of a pod."""

    containers: list[Container] | None = None


class PodCondition(_Part, frozen=True):
    """One aspect of a pod's state."""

    type: str = ""
    status: str = ""
    reason: str | None = None


class PodStatus(_Part, frozen=True):
    """The state of a pod."""

    phase: str = ""
    pod_ip: str | None = msgspec.field(default=None, name="podIP")
    conditions: list[PodCondition] | None = None


class Pod(KubeObject, frozen=True):
    """core/v1 Pod."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class SlicePort(_Part, frozen=True):
    """A port that every endpoint of a slice has."""

    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class SliceConditions(_Part, frozen=True):
    """Whether an endpoint of a slice takes traffic; None: not stated."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class TargetRef(_Part, frozen=True):
    """The object behind an endpoint of a slice."""

    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""


class SliceEndpoint(_Part, frozen=True):
    """One endpoint of a slice; its addresses are one machine's, the first one is used."""

    addresses: list[str] | None = None
    conditions: SliceConditions = SliceConditions()
    hostname: str | None = None
    target_ref: TargetRef | None = None


class EndpointSlice(KubeObject, frozen=True):
    """discovery.k8s.io/v1 EndpointSlice."""

    address_type: str = ""
    ports: list[SlicePort] | None = None
    endpoints: list[SliceEndpoint] | None = None


class AdapterSpec(_Part, frozen=True):
    """The specification of a ModelAdapter."""

    base_model: str | None = None


class AdapterStatus(_Part, frozen=True):
    """Which pods, by name, have loaded a LoRA adapter."""

    phase: str = ""
    instances: list[str] | None = None


class ModelAdapter(KubeObject, frozen=True):
    """model.aibrix.ai/v1alpha1 ModelAdapter: a LoRA adapter, its name is the model's."""

    spec: AdapterSpec = AdapterSpec()
    status: AdapterStatus = AdapterStatus()


class TargetPort(_Part, frozen=True):
    """One port of a pool; each is an endpoint of its own."""

    number: int = 0


class PoolSelector(_Part, frozen=True):
    """Which pods of the namespace a pool has."""

    match_labels: dict[str, str] | None = None


class PoolSpec(_Part, frozen=True):
    """The specification of an InferencePool."""

    selector: PoolSelector = PoolSelector()
    target_ports: list[TargetPort] | None = None


class InferencePool(KubeObject, frozen=True):
    """inference.networking.k8s.io/v1 InferencePool."""

    spec: PoolSpec = PoolSpec()


class ServicePort(_Part, frozen=True):
    """One port of a Service."""

    name: str = ""
    protocol: str = "TCP"


class ServiceSpec(_Part, frozen=True):
    """With a selector, Kubernetes finds the endpoints of a Service by itself."""

    selector: dict[str, str] | None = None
    ports: list[ServicePort] | None = None


class Service(KubeObject, frozen=True):
    """core/v1 Service."""

    spec: ServiceSpec = ServiceSpec()


def labels_of(one: KubeObject) -> Mapping[str, str]:
    """An object's labels."""
    return one.metadata.labels or NOTHING


def annotations_of(one: KubeObject) -> Mapping[str, str]:
    """An object's annotations."""
    return one.metadata.annotations or NOTHING
