"""Translates an EndpointSlice into endpoints, for engines outside of pods. Labels are read as on a pod.

Endpoints that are pods are left out: the watch of pods has them.
"""

from typing import Final

from aibrix_extproc.core.fleet.kubernetes.objects import EndpointSlice, SliceEndpoint, SlicePort, labels_of
from aibrix_extproc.core.fleet.kubernetes.podspec import (
    MAX_PORT,
    PORT,
    Traits,
    Translation,
    Unusable,
    address_of,
    endpoint_of,
    port_number,
    shown,
    traits_of,
)
from aibrix_extproc.core.fleet.model import Endpoint, Health

MAX_WARNINGS: Final = 10


def translate_slice(one: EndpointSlice) -> Translation:
    """The endpoints of a slice, with warnings for those that cannot be used."""
    if all(_is_pod(endpoint) for endpoint in one.endpoints or ()):
        return Translation(left_out="has only pods, which are watched as such")
    try:
        if one.address_type not in ("IPv4", "IPv6"):
            raise Unusable(f"addressType {shown(one.address_type)}: Envoy needs IP addresses, IPv4 or IPv6")
        traits, port = traits_of(one), _port(one)
    except Unusable as error:
        return Translation(warnings=(f"left out: {error}",))
    found: list[Endpoint] = []
    warnings = list(traits.warnings)
    for endpoint in one.endpoints or ():
        if _is_pod(endpoint):
            continue
        try:
            found.append(_endpoint(one, endpoint, traits, port))
        except Unusable as error:
            warnings.append(f"an endpoint is left out: {error}")
    return Translation(tuple(found), tuple(warnings[:MAX_WARNINGS]))


def _is_pod(endpoint: SliceEndpoint) -> bool:
    return endpoint.target_ref is not None and endpoint.target_ref.kind == "Pod"


def _port(one: EndpointSlice) -> int:
    labels = labels_of(one)
    if PORT in labels:
        return port_number(PORT, labels[PORT])
    ports = [port for port in one.ports or () if _is_tcp(port)]
    if len(ports) != 1:
        raise Unusable(f"it has {len(ports)} TCP ports; name the engine's by the label {PORT}")
    number = ports[0].port or 0
    if not 0 < number <= MAX_PORT:
        raise Unusable(f"port {number} is none (1 to {MAX_PORT})")
    return number


def _is_tcp(port: SlicePort) -> bool:
    return port.protocol in (None, "", "TCP") and port.port is not None


def _endpoint(one: EndpointSlice, endpoint: SliceEndpoint, traits: Traits, port: int) -> Endpoint:
    if not endpoint.addresses:
        raise Unusable("it has no address")
    place = address_of(endpoint.addresses[0]), port
    return endpoint_of(one, traits, place, _health(endpoint, must_poll=not traits.models), name=endpoint.hostname or "")


def _health(endpoint: SliceEndpoint, *, must_poll: bool) -> tuple[Health, str]:
    said = endpoint.conditions
    if said.terminating:
        return Health.DRAINING, "its EndpointSlice says that it terminates"
    if said.ready is False:
        return Health.NOT_READY, "its EndpointSlice says that it is not ready"
    # None: its readiness is not checked, so it is polled before it is picked.
    return (Health.READY, "") if said.ready and not must_poll else (Health.UNKNOWN, "")
