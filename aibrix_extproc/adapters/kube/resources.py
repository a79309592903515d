"""The kinds that are read, watched or written: where the API has them, and the rule that allows it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from aibrix_extproc.core.fleet.kubernetes.objects import (
    EndpointSlice,
    InferencePool,
    KubeObject,
    ModelAdapter,
    Pod,
    Service,
)

WATCHING: Final = ("get", "list", "watch")
ALL_NAMESPACES: Final = "*"


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object."""

    name: str
    group: str
    version: str
    plural: str
    kind: type[KubeObject] = KubeObject  # the fields that the fleet reads
    namespaced: bool = True

    def path(self, namespace: str | None) -> str:
        """The collection's path; None: of all namespaces."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        whole = namespace is None or not self.namespaced
        return f"{root}/{self.plural}" if whole else f"{root}/namespaces/{quote(namespace or '', '')}/{self.plural}"

    @property
    def title(self) -> str:
        """As kubectl names it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def item(self, namespace: str, name: str) -> str:
        """One object's path."""
        return f"{self.path(namespace)}/{quote(name, '')}"

    def rule(self, namespace: str | None, verbs: Iterable[str] = WATCHING) -> str:
        """The rule to add, and to which role."""
        where = "a ClusterRole" if namespace is None else f"a Role in the namespace {namespace}"
        named = ", ".join(f'"{verb}"' for verb in verbs)
        return f'add to {where}: {{apiGroups: ["{self.group}"], resources: ["{self.plural}"], verbs: [{named}]}}'


PODS: Final = Resource("Pod", "", "v1", "pods", Pod)
SLICES: Final = Resource("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices", EndpointSlice)
ADAPTERS: Final = Resource("ModelAdapter", "model.aibrix.ai", "v1alpha1", "modeladapters", ModelAdapter)
SERVICES: Final = Resource("Service", "", "v1", "services", Service)
SECRETS: Final = Resource("Secret", "", "v1", "secrets")
LEASES: Final = Resource("Lease", "coordination.k8s.io", "v1", "leases")
POOLS: Final = Resource("InferencePool", "inference.networking.k8s.io", "v1", "inferencepools", InferencePool)


@dataclass(frozen=True, slots=True)
class Feed:
    """One collection to watch: a kind in a namespace (None: all), selected by the server."""

    resource: Resource
    namespace: str | None
    labels: str = ""
    fields: str = ""

    @property
    def title(self) -> str:
        """For messages and tables."""
        where = "all namespaces" if self.namespace is None else self.namespace
        return f"{self.resource.title} in {where}"

    @property
    def path(self) -> str:
        """The collection's path."""
        return self.resource.path(self.namespace)

    def query(self, **more: str) -> dict[str, str]:
        """The selection, and more parameters; empty ones are left out."""
        given = {"labelSelector": self.labels, "fieldSelector": self.fields, **more}
        return {name: value for name, value in given.items() if value}


def watched_namespaces(named: Iterable[str], own: str) -> tuple[str | None, ...]:
    """The namespaces of the settings, or our own; None: all."""
    chosen = tuple(dict.fromkeys(named)) or (own,)
    return (None,) if ALL_NAMESPACES in chosen else chosen


def is_older(version: str, other: str) -> bool:
    """Whether a watched version is older than another one; one that is no number counts as newer."""
    return version.isdecimal() and other.isdecimal() and int(version) < int(other)
