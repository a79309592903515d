"""The engine addresses that Envoy may send to, as the file it watches.

Envoy sees a change only when the file is moved into place; a write in place is not noticed.
"""

import json
from collections.abc import Iterable

from aibrix_extproc.adapters.envoyproxy.spec import SocketAddress

ENGINES_CLUSTER = "engines"
_ASSIGNMENT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


def parse_address(text: str) -> SocketAddress:
    """`ip:port` or `[ip]:port` as a value; ValueError if it is neither."""
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"not an address of the form ip:port: {text!r}")
    return SocketAddress(host.removeprefix("[").removesuffix("]"), int(port))


def render_endpoints(addresses: Iterable[str]) -> bytes:
    """The endpoint discovery file for these `ip:port` addresses; the order does not matter, so it is sorted."""
    lb_endpoints = [_lb_endpoint(parse_address(address)) for address in sorted(set(addresses))]
    assignment = {"@type": _ASSIGNMENT, "cluster_name": ENGINES_CLUSTER, "endpoints": [{"lb_endpoints": lb_endpoints}]}
    return json.dumps({"resources": [assignment]}, indent=1).encode()


def _lb_endpoint(address: SocketAddress) -> dict[str, object]:
    socket_address = {"address": address.host, "port_value": address.port}
    return {"endpoint": {"address": {"socket_address": socket_address}}}
