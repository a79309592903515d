"""The two clusters: the engines, reached only by an address that our processor chose, and the processors."""

from datetime import timedelta

from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.common.mutation_rules import v3 as mutation_rules
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.extensions.filters.http.header_mutation import v3 as header_mutation
from envoy_data_plane.envoy.extensions.filters.http.lua import v3 as lua
from envoy_data_plane.envoy.extensions.filters.http.upstream_codec import v3 as upstream_codec
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.load_balancing_policies.least_request import v3 as least_request
from envoy_data_plane.envoy.extensions.load_balancing_policies.override_host import v3 as override_host
from envoy_data_plane.envoy.extensions.load_balancing_policies.round_robin import v3 as round_robin
from envoy_data_plane.envoy.extensions.load_balancing_policies.subset import v3 as subset
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as upstreams
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.google import protobuf

from aibrix_extproc.adapters.envoyproxy.endpoints import ENGINES_CLUSTER
from aibrix_extproc.adapters.envoyproxy.processor_tls import mutual_tls
from aibrix_extproc.adapters.envoyproxy.replies import THE_REQUESTS_ID, header
from aibrix_extproc.adapters.envoyproxy.spec import MIB, READINESS_SERVICE, EnvoySpec, SocketAddress
from aibrix_extproc.core.openai.contract.headers import DESTINATION, REQUEST_ID

PROCESSORS_CLUSTER = "processors"
METADATA_CLUSTER = "metadata"
_UNLIMITED = 100_000
# vLLM closes an idle connection after 5 s; a request sent into that moment would be reset.
_ENGINE_IDLE = timedelta(seconds=4)
_HEALTH_INTERVAL = timedelta(seconds=0.25)
_EJECTION = timedelta(seconds=0.5)


def engines(spec: EnvoySpec) -> cluster.Cluster:
    """Engines, listed in a watched file. Only the destination header picks one; the fallback finds none."""
    return cluster.Cluster(
        name=ENGINES_CLUSTER,
        type=cluster.ClusterDiscoveryType.EDS,
        eds_cluster_config=cluster.ClusterEdsClusterConfig(
            eds_config=core.ConfigSource(
                resource_api_version=core.ApiVersion.V3,
                path_config_source=core.PathConfigSource(
                    path=str(spec.endpoints_file),
                    watched_directory=core.WatchedDirectory(path=str(spec.endpoints_directory)),
                ),
            )
        ),
        connect_timeout=timedelta(seconds=spec.connect_timeout),
        per_connection_buffer_limit_bytes=MIB,
        load_balancing_policy=_policy("override_host", _destination_header()),
        common_lb_config=_no_panic(),
        circuit_breakers=_no_limits(),
        typed_extension_protocol_options=_http(
            upstreams.HttpProtocolOptions(
                common_http_protocol_options=core.HttpProtocolOptions(idle_timeout=_ENGINE_IDLE),
                explicit_http_config=upstreams.HttpProtocolOptionsExplicitHttpConfig(
                    http_protocol_options=core.Http1ProtocolOptions()
                ),
                http_filters=[_attempt_id(), *_answer_filter(spec), _codec()],
            )
        ),
        # An engine that left the list gets no new requests, even if its last health check passed; its streams continue.
        ignore_health_on_host_removal=True,
    )


def processors(spec: EnvoySpec) -> cluster.Cluster:
    """The ext_proc workers, health-checked so that a dead or draining one gets no exchange."""
    return cluster.Cluster(
        name=PROCESSORS_CLUSTER,
        type=cluster.ClusterDiscoveryType.STATIC,
        load_assignment=endpoint.ClusterLoadAssignment(
            cluster_name=PROCESSORS_CLUSTER,
            endpoints=[endpoint.LocalityLbEndpoints(lb_endpoints=[_lb_endpoint(one) for one in spec.processors])],
        ),
        connect_timeout=timedelta(seconds=0.25),
        per_connection_buffer_limit_bytes=MIB,
        # Streams live as long as their responses, so the fewest of them is the least work.
        load_balancing_policy=_policy("least_request", least_request.LeastRequest()),
        common_lb_config=_no_panic(),
        circuit_breakers=_no_limits(),
        health_checks=[_readiness(spec)],
        transport_socket=None if spec.processor_tls is None else mutual_tls(spec.processor_tls),
        outlier_detection=_first_failures(),
        typed_extension_protocol_options=_http(
            upstreams.HttpProtocolOptions(
                explicit_http_config=upstreams.HttpProtocolOptionsExplicitHttpConfig(
                    http2_protocol_options=core.Http2ProtocolOptions(
                        max_concurrent_streams=_UNLIMITED,
                        initial_stream_window_size=MIB,
                        initial_connection_window_size=16 * MIB,
                    )
                )
            )
        ),
    )


def metadata(address: SocketAddress) -> cluster.Cluster:
    """The metadata service. Bodies stream through, so it may be as slow as its clients."""
    return cluster.Cluster(
        name=METADATA_CLUSTER,
        type=cluster.ClusterDiscoveryType.STATIC,
        load_assignment=endpoint.ClusterLoadAssignment(
            cluster_name=METADATA_CLUSTER,
            endpoints=[endpoint.LocalityLbEndpoints(lb_endpoints=[_lb_endpoint(address)])],
        ),
        connect_timeout=timedelta(seconds=1),
        per_connection_buffer_limit_bytes=MIB,
        circuit_breakers=_no_limits(),
    )


def _attempt_id() -> hcm.HttpFilter:
    """Each attempt has an id of its own at the engine: the request's, and which attempt it is.

    All filters of a request share one map of headers, also upstream ones: what is written here stays. A filter that
    needs the request's id afterwards uses `replies.THE_REQUESTS_ID`.
    """
    mutations = header_mutation.Mutations(
        request_mutations=[
            mutation_rules.HeaderMutation(
                append=header(REQUEST_ID, f"{THE_REQUESTS_ID}-%UPSTREAM_REQUEST_ATTEMPT_COUNT%")
            )
        ]
    )
    return hcm.HttpFilter(
        name="attempt_id", typed_config=protobuf.Any.pack(header_mutation.HeaderMutation(mutations=mutations))
    )


def _answer_filter(spec: EnvoySpec) -> list[hcm.HttpFilter]:
    """Here, and not in the route: the status that it gives an answer decides on the next attempt."""
    if spec.answer_filter is None:
        return []
    if spec.access_log_service or spec.stream_filter is not None:
        source = core.DataSource(filename=str(spec.answer_filter))
    else:  # usage is not counted
        source = core.DataSource(inline_string=f"UNMETERED = true\ndofile([==[{spec.answer_filter}]==])\n")
    return [hcm.HttpFilter(name="answer_filter", typed_config=protobuf.Any.pack(lua.Lua(default_source_code=source)))]


def _codec() -> hcm.HttpFilter:
    """The last filter towards an engine, as Envoy wants it once there is another one."""
    return hcm.HttpFilter(
        name="envoy.filters.http.upstream_codec", typed_config=protobuf.Any.pack(upstream_codec.UpstreamCodec())
    )


def _destination_header() -> override_host.OverrideHost:
    return override_host.OverrideHost(
        override_host_sources=[override_host.OverrideHostOverrideHostSource(header=DESTINATION)],
        # Used when the list is used up or names an unknown endpoint. A subset that no engine is in: no engine of
        # another model is ever reached by chance.
        fallback_policy=_policy(
            "subset",
            subset.Subset(
                fallback_policy=subset.SubsetLbSubsetFallbackPolicy.NO_FALLBACK,
                subset_selectors=[subset.SubsetLbSubsetSelector(keys=["never"])],
                subset_lb_policy=_policy("round_robin", round_robin.RoundRobin()),
            ),
        ),
    )


def _policy(name: str, message: object) -> cluster.LoadBalancingPolicy:
    extension = core.TypedExtensionConfig(
        name=f"envoy.load_balancing_policies.{name}", typed_config=protobuf.Any.pack(message)
    )
    return cluster.LoadBalancingPolicy(policies=[cluster.LoadBalancingPolicyPolicy(typed_extension_config=extension)])


def _no_panic() -> cluster.ClusterCommonLbConfig:
    """Unhealthy hosts stay unused even when all are: the caller gets an answer at once instead.

    Envoy would hold back a change of health for a second after another one: a worker that drains while its
    replacement has just become ready would get exchanges until it is gone.
    """
    return cluster.ClusterCommonLbConfig(
        healthy_panic_threshold=envoy_type.Percent(value=0.0), update_merge_window=timedelta(0)
    )


def _no_limits() -> cluster.CircuitBreakers:
    """Envoy's default of 1024 requests, and of 3 retries at once, would refuse work that engines could queue."""
    thresholds = cluster.CircuitBreakersThresholds(
        max_connections=_UNLIMITED, max_pending_requests=_UNLIMITED, max_requests=_UNLIMITED, max_retries=_UNLIMITED
    )
    return cluster.CircuitBreakers(thresholds=[thresholds])


def _http(options: upstreams.HttpProtocolOptions) -> dict[str, protobuf.Any]:
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protobuf.Any.pack(options)}


def _readiness(spec: EnvoySpec) -> core.HealthCheck:
    # Health checks offer no protocol by themselves, and the processors take nothing but HTTP/2.
    options = None if spec.processor_tls is None else core.HealthCheckTlsOptions(alpn_protocols=["h2"])
    return core.HealthCheck(
        tls_options=options,
        # Refused connections fail at once; the time-out is for a worker that is stuck, and must outlast a busy one.
        timeout=timedelta(seconds=2),
        interval=_HEALTH_INTERVAL,
        no_traffic_interval=_HEALTH_INTERVAL,
        unhealthy_interval=timedelta(seconds=0.1),
        unhealthy_threshold=1,
        healthy_threshold=1,
        grpc_health_check=core.HealthCheckGrpcHealthCheck(service_name=READINESS_SERVICE),
    )


def _first_failures() -> cluster.OutlierDetection:
    """Keep away from a worker after two lost connections in a row, until the health check finds it dead.

    With two workers and 32 clients, killing one costs about ten JSON 503s instead of some three hundred. What a
    worker answers, gRPC errors included, never counts.
    """
    return cluster.OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=2,
        enforcing_consecutive_local_origin_failure=100,
        enforcing_consecutive_5xx=0,
        enforcing_consecutive_gateway_failure=0,
        enforcing_success_rate=0,
        enforcing_local_origin_success_rate=0,
        interval=timedelta(seconds=0.1),
        base_ejection_time=_EJECTION,
        max_ejection_time=_EJECTION,
        max_ejection_percent=100,
    )


def _lb_endpoint(address: SocketAddress) -> endpoint.LbEndpoint:
    socket_address = core.SocketAddress(address=address.host, port_value=address.port)
    return endpoint.LbEndpoint(endpoint=endpoint.Endpoint(address=core.Address(socket_address=socket_address)))
