"""Envoy as gateways of the Gateway API Inference Extension set it up around an endpoint picker."""

from typing import Any

DESTINATION = "x-gateway-destination-endpoint"
SERVED = f"{DESTINATION}-served"
SUBSET = f"{DESTINATION}-subset"
SUBSET_HINT_HEADER = "x-test-subset"  # what the client says of the subset; a gateway's configuration would
BUFFER_BYTES = 32_768  # far below the bodies that pass

ARGUMENTS = ("--host", "127.0.0.1", "--secure-serving=false", "--grpc-health-port", "0")


def by_metadata(configuration: dict[str, Any]) -> None:
    """Bodies in pieces both ways; the engine by metadata, and reported in it; one attempt, as pickers name one."""
    by_header(configuration)
    (listener,) = configuration["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    # With retries Envoy 1.40 sends the body of a request that has trailers twice (envoyproxy/envoy#45470).
    del manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["retry_policy"]
    metadata = {"key": "envoy.lb", "path": [{"key": DESTINATION}]}
    policy = _override_host(configuration)
    policy["override_host_sources"] = [{"metadata": metadata}]
    policy["selected_host_key"] = {"key": "envoy.lb", "path": [{"key": SERVED}]}


def by_header(configuration: dict[str, Any]) -> None:
    """Bodies in pieces both ways, buffers that hold none of them; the engine by header."""
    (listener,) = configuration["static_resources"]["listeners"]
    listener["per_connection_buffer_limit_bytes"] = BUFFER_BYTES
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http2_protocol_options"] = {}
    filters = manager["http_filters"]
    processor = next(one for one in filters if one["name"] == "envoy.filters.http.ext_proc")["typed_config"]
    processor["processing_mode"] = {
        "request_header_mode": "SEND",
        "request_body_mode": "FULL_DUPLEX_STREAMED",
        "request_trailer_mode": "SEND",
        "response_header_mode": "SEND",
        "response_body_mode": "FULL_DUPLEX_STREAMED",
        "response_trailer_mode": "SEND",
    }
    del processor["allow_mode_override"]
    processor["metadata_options"]["forwarding_namespaces"] = {"untyped": ["envoy.lb", "envoy.lb.subset_hint"]}
    filters.insert(0, _subset_hint())


def _subset_hint() -> dict[str, Any]:
    rule = {
        "header": SUBSET_HINT_HEADER,
        "on_header_present": {"metadata_namespace": "envoy.lb.subset_hint", "key": SUBSET},
        "remove": True,
    }
    kind = "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config"
    return {"name": "subset_hint", "typed_config": {"@type": kind, "request_rules": [rule]}}


def _override_host(configuration: dict[str, Any]) -> dict[str, Any]:
    clusters = configuration["static_resources"]["clusters"]
    engines = next(one for one in clusters if one["name"] == "engines")
    policy: dict[str, Any] = engines["load_balancing_policy"]["policies"][0]["typed_extension_config"]["typed_config"]
    return policy
