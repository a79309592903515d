"""Envoy without an ext_proc server: the shipped configuration minus everything that places a request."""

import copy
from collections.abc import Mapping
from typing import Any

from aibrix_extproc.adapters.envoyproxy.clusters import PROCESSORS_CLUSTER
from aibrix_extproc.adapters.envoyproxy.endpoints import ENGINES_CLUSTER
from aibrix_extproc.adapters.envoyproxy.listener import EXT_PROC_FILTER

_ROUND_ROBIN = {
    "policies": [
        {
            "typed_extension_config": {
                "name": "envoy.load_balancing_policies.round_robin",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin"
                },
            }
        }
    ]
}


def without_processor(shipped: Mapping[str, Any]) -> dict[str, Any]:
    """The same listener, codec, routes' settings and engine cluster; engines are picked round robin by Envoy."""
    plain: dict[str, Any] = copy.deepcopy(dict(shipped))
    resources = plain["static_resources"]
    (listener,) = resources["listeners"]
    (network_filter,) = listener["filter_chains"][0]["filters"]
    manager = network_filter["typed_config"]
    manager["http_filters"] = [one for one in manager["http_filters"] if one["name"] != EXT_PROC_FILTER]
    (host,) = manager["route_config"]["virtual_hosts"]
    del host["typed_per_filter_config"]
    (placed,) = [one for one in host["routes"] if one.get("route", {}).get("cluster") == ENGINES_CLUSTER]
    del placed["match"]["headers"]
    resources["clusters"] = [one for one in resources["clusters"] if one["name"] != PROCESSORS_CLUSTER]
    (engines,) = resources["clusters"]
    engines["load_balancing_policy"] = _ROUND_ROBIN
    return plain
