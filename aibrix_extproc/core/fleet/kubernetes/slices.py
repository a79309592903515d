"""The EndpointSlices that make a fleet's engines endpoints of one Service: what is to be written, given what stands.

Engines are published as leaving (`PUBLISHED`): Envoy Gateway hands such endpoints to Envoy as draining, so that a
destination header reaches them, and Envoy's own load balancing never does. An endpoint stays in its slice for life.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from aibrix_extproc.core.fleet.kubernetes.objects import SliceConditions, SliceEndpoint, SlicePort, TargetRef
from aibrix_extproc.core.fleet.model import Endpoint

CAPACITY: Final = 500  # endpoints of a slice; the API takes 1,000, and every change writes a slice whole
SERVICE_LABEL: Final = "kubernetes.io/service-name"
MANAGER_LABEL: Final = "endpointslice.kubernetes.io/managed-by"
MANAGER: Final = "aibrix-extproc"
PUBLISHED: Final = SliceConditions(ready=False, serving=True, terminating=True)


class Owner(msgspec.Struct, frozen=True, rename="camel"):
    """The Service, with which its slices are to go."""

    name: str
    uid: str
    api_version: str = "v1"
    kind: str = "Service"


class WrittenMetadata(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The metadata that we write; a slice that is to be created has no version."""

    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    owner_references: list[Owner] | None = None


class WrittenSlice(msgspec.Struct, frozen=True, rename="camel"):
    """An EndpointSlice of ours, as it is written and as it is read again."""

    metadata: WrittenMetadata
    address_type: str
    ports: list[SlicePort] | None
    endpoints: list[SliceEndpoint] | None
    api_version: Literal["discovery.k8s.io/v1"] = "discovery.k8s.io/v1"
    kind: Literal["EndpointSlice"] = "EndpointSlice"


@dataclass(frozen=True, slots=True)
class Publication:
    """The Service to publish for."""

    service: str
    namespace: str
    port_name: str
    owner: Owner | None = None  # None: not known, or not to be seen

    @property
    def labels(self) -> dict[str, str]:
        """By these, slices are the Service's and ours."""
        return {SERVICE_LABEL: self.service, MANAGER_LABEL: MANAGER}


@dataclass(frozen=True, slots=True, order=True)
class Group:
    """The properties that all endpoints of one slice share."""

    family: str  # an addressType: IPv4 or IPv6
    port: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """The endpoints to publish, by group and IP address, and why which one is not."""

    groups: Mapping[Group, Mapping[str, SliceEndpoint]]
    warnings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def size(self) -> int:
        """The number of endpoints."""
        return sum(len(group) for group in self.groups.values())


@dataclass(frozen=True, slots=True)
class Step:
    """Changes to write: first these slices (those without a version are new), then delete those."""

    put: tuple[WrittenSlice, ...] = ()
    delete: tuple[WrittenSlice, ...] = ()


def wanted_of(endpoints: Iterable[Endpoint]) -> Wanted:
    """Every endpoint with an address that the API takes, ready or not: a pod is known to Envoy before it is picked."""
    groups: dict[Group, dict[str, SliceEndpoint]] = {}
    warnings: dict[str, str] = {}
    for endpoint in endpoints:
        if not endpoint.address:
            continue
        host, _, port = endpoint.address.rpartition(":")
        ip = host.strip("[]")
        try:
            group = Group(_family(ip), int(port))
        except ValueError as error:
            warnings[endpoint.name or endpoint.address] = f"{endpoint.address} is not published: {error}"
            continue
        groups.setdefault(group, {}).setdefault(ip, _published(ip, endpoint))
    return Wanted(groups, warnings)


def next_step(
    wanted: Wanted, current: Iterable[WrittenSlice], publication: Publication, taken: Iterable[str] = ()
) -> Step:
    """The writes that turn the current slices into the wanted ones. `taken`: names of slices that are not ours."""
    by_group: dict[Group | None, list[WrittenSlice]] = {}
    names = set(taken)
    for one in sorted(current, key=lambda one: one.metadata.name):
        by_group.setdefault(_group_of(one), []).append(one)
        names.add(one.metadata.name)
    put: list[WrittenSlice] = []
    delete: list[WrittenSlice] = []
    for group in sorted(wanted.groups):
        slots = _filled(wanted.groups[group], by_group.pop(group, []))
        for before, endpoints in slots:
            after = _written(publication, group, endpoints, before, names)
            if not endpoints and before is not None:
                delete.append(before)
            elif before is None or _differ(before, after):
                put.append(after)
    for obsolete in by_group.values():
        delete += obsolete
    return Step(tuple(put), tuple(delete))


def _filled(
    wanted: Mapping[str, SliceEndpoint], current: list[WrittenSlice]
) -> list[tuple[WrittenSlice | None, list[SliceEndpoint]]]:
    """Endpoints by slice: each where it was, new ones in the fullest slice with room, then in new slices."""
    fresh = dict(wanted)
    slots: list[tuple[WrittenSlice | None, list[SliceEndpoint]]] = []
    for one in current:
        addresses = (endpoint.addresses[0] for endpoint in one.endpoints or () if endpoint.addresses)
        slots.append((one, [fresh.pop(ip) for ip in addresses if ip in fresh][:CAPACITY]))
    kept = {endpoint.addresses[0] for _, endpoints in slots for endpoint in endpoints if endpoint.addresses}
    waiting = [endpoint for ip, endpoint in wanted.items() if ip not in kept]
    for _, endpoints in sorted(slots, key=lambda slot: -len(slot[1])):
        room = CAPACITY - len(endpoints)
        endpoints += waiting[:room]
        waiting = waiting[room:]
    slots += [(None, waiting[start : start + CAPACITY]) for start in range(0, len(waiting), CAPACITY)]
    return slots


def _written(
    publication: Publication,
    group: Group,
    endpoints: list[SliceEndpoint],
    before: WrittenSlice | None,
    names: set[str],
) -> WrittenSlice:
    name = _free_name(publication.service, group, names) if before is None else before.metadata.name
    return WrittenSlice(
        WrittenMetadata(
            name=name,
            namespace=publication.namespace,
            resource_version="" if before is None else before.metadata.resource_version,
            labels=publication.labels,
            owner_references=_owners(publication, before),
        ),
        address_type=group.family,
        ports=[SlicePort(name=publication.port_name, port=group.port, protocol="TCP")],
        endpoints=endpoints,
    )


def _owners(publication: Publication, before: WrittenSlice | None) -> list[Owner] | None:
    if publication.owner is not None:
        return [publication.owner]
    return None if before is None else before.metadata.owner_references


def _free_name(service: str, group: Group, names: set[str]) -> str:
    number = 0
    while (name := f"{service}-{group.family.lower()}-{group.port}-{number}") in names:
        number += 1
    names.add(name)
    return name


def _differ(before: WrittenSlice, after: WrittenSlice) -> bool:
    labels = before.metadata.labels or {}
    return (
        (before.ports, before.endpoints, before.metadata.owner_references)
        != (after.ports, after.endpoints, after.metadata.owner_references)
        # Others may add labels of their own.
        or any(labels.get(key) != value for key, value in (after.metadata.labels or {}).items())
    )


def _group_of(one: WrittenSlice) -> Group | None:
    """None: a slice that we would not write like this."""
    ports = one.ports or []
    return Group(one.address_type, ports[0].port) if len(ports) == 1 and ports[0].port is not None else None


def _published(ip: str, endpoint: Endpoint) -> SliceEndpoint:
    target = None
    if endpoint.pod_uid:
        namespace, _, name = endpoint.name.partition("/")
        target = TargetRef("Pod", name, namespace, endpoint.pod_uid)
    return SliceEndpoint([ip], PUBLISHED, target_ref=target)


@lru_cache(maxsize=16_384)  # half of the work, and the addresses of a fleet are nearly the same each time
def _family(ip: str) -> str:
    """The addressType of an address. Raises ValueError for those that the API refuses."""
    parsed = ipaddress.ip_address(ip)
    if parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified or parsed.is_multicast:
        raise ValueError("Kubernetes takes no loopback, link-local, multicast or unspecified address in a slice")
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        raise ValueError("an IPv4 address in the form of IPv6; name it as IPv4")
    return f"IPv{parsed.version}"
