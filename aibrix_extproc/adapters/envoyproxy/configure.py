"""The whole Envoy configuration for one machine, built from `envoy-data-plane`'s types and written as JSON.

`envoy/envoy.yaml` at the top of the repository is the same thing for human readers; a test keeps the two equal.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import betterproto2
from envoy_data_plane.envoy.config.bootstrap import v3 as bootstrap
from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.overload import v3 as overload
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections import v3 as connections
from envoy_data_plane.envoy.extensions.resource_monitors.fixed_heap import v3 as fixed_heap
from envoy_data_plane.google import protobuf

from aibrix_extproc.adapters.envoyproxy.clusters import engines, metadata, processors
from aibrix_extproc.adapters.envoyproxy.listener import http_listener
from aibrix_extproc.adapters.envoyproxy.spec import EnvoySpec
from aibrix_extproc.config_files.replacing import write_atomically

_MAX_CLIENT_CONNECTIONS = 50_000


def configuration(spec: EnvoySpec) -> Mapping[str, Any]:
    """The bootstrap configuration as plain JSON values, with Envoy's own snake_case names."""
    built = bootstrap.Bootstrap(
        node=core.Node(id="gateway", cluster="aibrix-extproc"),
        admin=bootstrap.Admin(address=_address(spec.admin.host, spec.admin.port)),
        static_resources=bootstrap.BootstrapStaticResources(listeners=[http_listener(spec)], clusters=_clusters(spec)),
        overload_manager=_overload_manager(spec),
    )
    text = json.dumps(built.to_dict(casing=betterproto2.Casing.SNAKE))
    plain: Mapping[str, Any] = json.loads(text.replace("consecutive_5_xx", "consecutive_5xx"))  # as Envoy spells it
    return plain


def _clusters(spec: EnvoySpec) -> list[cluster.Cluster]:
    always = [engines(spec), processors(spec)]
    return always if spec.metadata is None else [*always, metadata(spec.metadata)]


def write_configuration(spec: EnvoySpec, path: Path) -> None:
    """Write the configuration where `envoy -c` reads it."""
    write_atomically(path, json.dumps(configuration(spec), indent=1).encode())


def command(envoy: Path, configuration_path: Path, *, concurrency: int | None = None) -> Sequence[str]:
    """The command line that runs Envoy with a configuration file.

    Hot restart is off: its shared memory would be shared with every other Envoy of the machine.
    """
    arguments = [str(envoy), "-c", str(configuration_path), "--disable-hot-restart", "--log-level", "warning"]
    arguments += ["--file-flush-interval-msec", "500", "--drain-time-s", "5"]
    if concurrency is not None:
        arguments += ["--concurrency", str(concurrency)]
    return arguments


def _address(host: str, port: int) -> core.Address:
    return core.Address(socket_address=core.SocketAddress(address=host, port_value=port))


def _overload_manager(spec: EnvoySpec) -> overload.OverloadManager:
    """Refuse new work before memory runs out; a limit on connections that no real client population reaches."""
    heap = fixed_heap.FixedHeapConfig(max_heap_size_bytes=spec.max_heap_bytes)
    clients = connections.DownstreamConnectionsConfig(max_active_downstream_connections=_MAX_CLIENT_CONNECTIONS)
    return overload.OverloadManager(
        refresh_interval=timedelta(seconds=0.25),
        resource_monitors=[
            overload.ResourceMonitor(name="envoy.resource_monitors.fixed_heap", typed_config=protobuf.Any.pack(heap)),
            overload.ResourceMonitor(
                name="envoy.resource_monitors.global_downstream_max_connections",
                typed_config=protobuf.Any.pack(clients),
            ),
        ],
        # Streams over HTTP/2 that hold more than a MiB count. Over HTTP/1 the connection holds what is not read, which
        # belongs to no stream: there the listener's socket option helps.
        buffer_factory_config=overload.BufferFactoryConfig(minimum_account_to_track_power_of_two=20),
        actions=[
            _reset_the_largest_streams(),
            _at_heap("envoy.overload_actions.shrink_heap", 0.9),
            _at_heap("envoy.overload_actions.stop_accepting_requests", 0.95),
        ],
    )


def _reset_the_largest_streams() -> overload.OverloadAction:
    """Before anything else is given up: those that hold most are cut first, more of them the fuller the heap is."""
    trigger = overload.Trigger(
        name="envoy.resource_monitors.fixed_heap",
        scaled=overload.ScaledTrigger(scaling_threshold=0.8, saturation_threshold=0.95),
    )
    return overload.OverloadAction(name="envoy.overload_actions.reset_high_memory_stream", triggers=[trigger])


def _at_heap(action: str, share: float) -> overload.OverloadAction:
    trigger = overload.Trigger(
        name="envoy.resource_monitors.fixed_heap", threshold=overload.ThresholdTrigger(value=share)
    )
    return overload.OverloadAction(name=action, triggers=[trigger])
