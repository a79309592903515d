"""The listener: HTTP in, our processor, and two routes.

Fail-open filter over a fail-closed route: the only way to an engine is the destination header, which clients cannot
send (it is removed before routing) and only our processor sets. Without the processor everything falls to the second
route, a JSON 503, while responses that are already running go on untouched.
"""

from datetime import timedelta
from typing import Final

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.common.mutation_rules import v3 as mutation_rules
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.access_loggers.file import v3 as file_log
from envoy_data_plane.envoy.extensions.access_loggers.grpc import v3 as grpc_log
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
from envoy_data_plane.envoy.extensions.filters.http.lua import v3 as lua
from envoy_data_plane.envoy.extensions.filters.http.router import v3 as router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation import v3 as early
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google import protobuf

from aibrix_extproc.adapters.envoyproxy.clusters import METADATA_CLUSTER, PROCESSORS_CLUSTER
from aibrix_extproc.adapters.envoyproxy.endpoints import ENGINES_CLUSTER
from aibrix_extproc.adapters.envoyproxy.replies import (
    THE_REQUESTS_ID,
    header,
    local_reply_config,
    preflight,
    readable,
)
from aibrix_extproc.adapters.envoyproxy.spec import METADATA_NAMESPACES, EnvoySpec
from aibrix_extproc.core.openai.contract.credentials import PARTS as CREDENTIAL_PARTS
from aibrix_extproc.core.openai.contract.errors import Problem, shape
from aibrix_extproc.core.openai.contract.headers import (
    DESTINATION,
    EXTPROC_NAMESPACE,
    PLACED_REQUEST_ID,
    READ_HEADERS,
    REQUEST_ID,
    RESERVED_REQUEST_HEADERS,
    SIGNED_CALLER,
)
from aibrix_extproc.core.openai.contract.operation_rows import ANTHROPIC_PATH, UPLOAD_PATHS

EXT_PROC_FILTER: Final = "envoy.filters.http.ext_proc"
# Only what the processor reads: each one costs both sides on every exchange.
RESPONSE_ATTRIBUTES: Final = (
    "request.id", "request.protocol", "response.code_details", "response.flags", "upstream.address",
)  # fmt: skip
# `reset` and not `reset-before-request`: an engine that dies after it has read the request is retried elsewhere too.
RETRY_ON: Final = "connect-failure,reset,retriable-status-codes"
# vLLM says 500 when its engine core has died under it, and 503 when its queue is full.
RETRIED_STATUSES: Final = (500, 502, 503)
ACCESS_LOG_NAME: Final = "aibrix-extproc"
_MAX_HEADERS_KIB: Final = 60
_IPPROTO_TCP: Final = 6
_TCP_USER_TIMEOUT: Final = 18  # Linux's number; the platform that builds a configuration may be another

_ACCESS_LOG_FIELDS: Final = {
    "time": "%START_TIME%",
    "request_id": THE_REQUESTS_ID,
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ)%",  # query strings may have secrets
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "head_ms": "%RESPONSE_DURATION%",
    "total_ms": "%DURATION%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "engine": "%UPSTREAM_HOST%",
    "engine_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "ext_proc": f"%FILTER_STATE({EXT_PROC_FILTER}:PLAIN)%",  # microseconds and gRPC status by phase
}
METADATA_IDLE = timedelta(minutes=2)  # without a byte in either direction


def http_listener(spec: EnvoySpec) -> listener.Listener:
    """One listener that takes HTTP/1.0, HTTP/1.1 and HTTP/2 without TLS."""
    manager = listener.Filter(
        name="envoy.filters.network.http_connection_manager",
        typed_config=protobuf.Any.pack(_connection_manager(spec)),
    )
    socket_address = core.SocketAddress(address=spec.listen.host, port_value=spec.listen.port)
    return listener.Listener(
        name="openai",
        address=core.Address(socket_address=socket_address),
        # What a request body may need: the processor gets it whole. A route's own limit is read too late for that.
        # It is the limit of an answer that the client does not read, too, hence the socket option.
        per_connection_buffer_limit_bytes=spec.max_body_bytes,
        socket_options=_stalled_readers(spec),
        filter_chains=[listener.FilterChain(filters=[manager])],
    )


def _stalled_readers(spec: EnvoySpec) -> list[core.SocketOption]:
    """The kernel ends a connection whose peer takes nothing for this long; connections inherit it from the listener."""
    if spec.stalled_reader_timeout is None:
        return []
    return [
        core.SocketOption(
            description="TCP_USER_TIMEOUT in ms",
            level=_IPPROTO_TCP,
            name=_TCP_USER_TIMEOUT,
            int_value=1000 * spec.stalled_reader_timeout,
            state=core.SocketOptionSocketState.STATE_LISTENING,
        )
    ]


def _connection_manager(spec: EnvoySpec) -> hcm.HttpConnectionManager:
    return hcm.HttpConnectionManager(
        stat_prefix="openai",
        codec_type=hcm.HttpConnectionManagerCodecType.AUTO,
        route_config=_routes(spec),
        http_filters=[
            *_stream_filter(spec),
            # Off unless a route switches it on: a request that is not valid HTTP never gets a route, and its answer
            # must be sent at once, for Envoy closes the connection without waiting for a processor.
            hcm.HttpFilter(name=EXT_PROC_FILTER, typed_config=protobuf.Any.pack(_ext_proc(spec)), disabled=True),
            hcm.HttpFilter(
                name="envoy.filters.http.router",
                typed_config=protobuf.Any.pack(router.Router(suppress_envoy_headers=True)),
            ),
        ],
        early_header_mutation_extensions=[_remove_forgeries()],
        local_reply_config=local_reply_config(spec.max_body_bytes),
        access_log=_access_log(spec),
        # Every peer counts as external, also on loopback: Envoy then ignores x-envoy-* orders and makes its own
        # request id. An empty list of internal addresses would still trust loopback, hence one that no peer has.
        use_remote_address=True,
        internal_address_config=hcm.HttpConnectionManagerInternalAddressConfig(
            cidr_ranges=[core.CidrRange(address_prefix="255.255.255.255", prefix_len=32)]
        ),
        generate_request_id=True,
        server_header_transformation=hcm.HttpConnectionManagerServerHeaderTransformation.PASS_THROUGH,
        # The processor must see the path as it was sent: model ids may hold slashes, escaped or not.
        normalize_path=False,
        merge_slashes=False,
        path_with_escaped_slashes_action=(hcm.HttpConnectionManagerPathWithEscapedSlashesAction.KEEP_UNCHANGED),
        max_request_headers_kb=_MAX_HEADERS_KIB,
        request_timeout=timedelta(seconds=spec.request_timeout),
        request_headers_timeout=timedelta(seconds=spec.headers_timeout),
        stream_idle_timeout=timedelta(seconds=spec.stream_idle_timeout),
        http_protocol_options=core.Http1ProtocolOptions(accept_http_10=True, default_host_for_http_10="gateway"),
        http2_protocol_options=core.Http2ProtocolOptions(
            max_concurrent_streams=1000,
            # Over HTTP/2 the stream window is the limit of a buffered body.
            initial_stream_window_size=spec.max_body_bytes,
            initial_connection_window_size=2 * spec.max_body_bytes,
        ),
    )


def _routes(spec: EnvoySpec) -> route.RouteConfiguration:
    host = route.VirtualHost(
        name="everything",
        domains=["*"],
        routes=[
            *_to_metadata(spec),
            _placed(spec),
            _preflight(),
            _not_placed("not_placed_anthropic", route.RouteMatch(path_separated_prefix=ANTHROPIC_PATH), anthropic=True),
            *(_not_handed_over(path) for path in UPLOAD_PATHS if spec.metadata is not None),
            _not_placed("not_placed", route.RouteMatch(prefix="/")),
        ],
        typed_per_filter_config={EXT_PROC_FILTER: protobuf.Any.pack(_switch_on())},
    )
    return route.RouteConfiguration(
        name="openai",
        virtual_hosts=[host],
        request_headers_to_remove=["x-envoy-internal", "x-envoy-external-address"],
        response_headers_to_remove=["server"],
        # Not `always_set_request_id_in_response`: that is the id of the last attempt. Local replies have theirs.
        response_headers_to_add=[header(REQUEST_ID, THE_REQUESTS_ID)],
    )


def _to_metadata(spec: EnvoySpec) -> list[route.Route]:
    """Only the processor can write the header, and it writes it for operations of the metadata service alone."""
    if spec.metadata is None:
        return []
    signed = route.HeaderMatcher(name=SIGNED_CALLER, present_match=True)
    action = route.RouteAction(
        cluster=METADATA_CLUSTER,
        timeout=timedelta(0),
        idle_timeout=METADATA_IDLE,
        retry_policy=route.RetryPolicy(retry_on="connect-failure,refused-stream,reset-before-request", num_retries=2),
    )
    return [route.Route(name="metadata", match=route.RouteMatch(prefix="/", headers=[signed]), route=action)]


def _placed(spec: EnvoySpec) -> route.Route:
    return route.Route(
        name="placed",
        match=route.RouteMatch(prefix="/", headers=[route.HeaderMatcher(name=DESTINATION, present_match=True)]),
        route=route.RouteAction(
            cluster=ENGINES_CLUSTER,
            timeout=timedelta(0),
            retry_policy=route.RetryPolicy(
                retry_on=RETRY_ON,
                num_retries=spec.retries,
                retriable_status_codes=list(RETRIED_STATUSES),
                retry_back_off=route.RetryPolicyRetryBackOff(
                    base_interval=timedelta(milliseconds=5), max_interval=timedelta(milliseconds=50)
                ),
            ),
        ),
    )


def _preflight() -> route.Route:
    """Answers preflights while the processor is away, so that a page can read the 503 that follows."""
    method = route.HeaderMatcher(name=":method", string_match=matcher.StringMatcher(exact="OPTIONS"))
    asking = route.HeaderMatcher(name="access-control-request-method", present_match=True)
    return route.Route(
        name="preflight",
        match=route.RouteMatch(prefix="/", headers=[method, asking]),
        direct_response=route.DirectResponseAction(status=204),
        response_headers_to_add=preflight(),
    )


def _not_handed_over(path: str) -> route.Route:
    """Where requests for this path are until the processor has seen their head.

    Their bodies are none of its business. In the mode BUFFERED Envoy would answer 413 to an upload that fills the
    buffer before the processor's answer to the head has switched the mode off.
    """
    made = _not_placed("not_handed_over", route.RouteMatch(path_separated_prefix=path))
    mode = _processing_mode(ext_proc.ProcessingModeBodySendMode.NONE)
    overrides = ext_proc.ExtProcPerRoute(overrides=ext_proc.ExtProcOverrides(processing_mode=mode))
    made.typed_per_filter_config = {EXT_PROC_FILTER: protobuf.Any.pack(overrides)}
    return made


def _not_placed(name: str, match: route.RouteMatch, *, anthropic: bool = False) -> route.Route:
    shaped = shape(Problem("gateway_unavailable"), anthropic=anthropic)
    return route.Route(
        name=name,
        match=match,
        direct_response=route.DirectResponseAction(
            status=shaped.status, body=core.DataSource(inline_string=shaped.body.decode())
        ),
        response_headers_to_add=[*(header(name, value) for name, value in shaped.headers), *readable()],
    )


def _processing_mode(request_body: ext_proc.ProcessingModeBodySendMode) -> ext_proc.ProcessingMode:
    send, skip = ext_proc.ProcessingModeHeaderSendMode.SEND, ext_proc.ProcessingModeHeaderSendMode.SKIP
    return ext_proc.ProcessingMode(
        request_header_mode=send,
        request_body_mode=request_body,
        request_trailer_mode=skip,
        response_header_mode=send,
        response_body_mode=ext_proc.ProcessingModeBodySendMode.NONE,
        # Or Envoy 1.37 and 1.38 end our stream with the response's head, and we would count none that runs. It
        # costs no message: engines send no trailers.
        response_trailer_mode=send,
    )


def _ext_proc(spec: EnvoySpec) -> ext_proc.ExternalProcessor:
    return ext_proc.ExternalProcessor(
        grpc_service=core.GrpcService(envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=PROCESSORS_CLUSTER)),
        failure_mode_allow=True,
        allow_mode_override=True,
        message_timeout=timedelta(seconds=spec.message_timeout),
        max_message_timeout=timedelta(seconds=spec.max_message_timeout),
        processing_mode=_processing_mode(ext_proc.ProcessingModeBodySendMode.BUFFERED),
        # Half of what an SDK sends is none of its business; leaving that out is cheaper for both sides.
        forward_rules=ext_proc.HeaderForwardingRules(
            allowed_headers=matcher.ListStringMatcher(
                patterns=[
                    *(matcher.StringMatcher(exact=name) for name in sorted(READ_HEADERS)),
                    *(matcher.StringMatcher(contains=part) for part in CREDENTIAL_PARTS),
                ]
            )
        ),
        response_attributes=list(RESPONSE_ATTRIBUTES),
        metadata_options=ext_proc.MetadataOptions(
            receiving_namespaces=ext_proc.MetadataOptionsMetadataNamespaces(untyped=list(METADATA_NAMESPACES))
        ),
    )


def _switch_on() -> ext_proc.ExtProcPerRoute:
    """A route with any settings for a filter has the filter; these settings change nothing."""
    return ext_proc.ExtProcPerRoute(overrides=ext_proc.ExtProcOverrides())


def _remove_forgeries() -> core.TypedExtensionConfig:
    """Before routing, so that neither a route nor our processor ever sees a client's copy."""
    envoys_own = matcher.StringMatcher(prefix="x-envoy-")
    mutations = [mutation_rules.HeaderMutation(remove=name) for name in RESERVED_REQUEST_HEADERS]
    mutations.append(
        mutation_rules.HeaderMutation(
            remove_on_match=mutation_rules.HeaderMutationRemoveOnMatch(key_matcher=envoys_own)
        )
    )
    return core.TypedExtensionConfig(
        name="envoy.http.early_header_mutation.header_mutation",
        typed_config=protobuf.Any.pack(early.HeaderMutation(mutations=mutations)),
    )


def _stream_filter(spec: EnvoySpec) -> list[hcm.HttpFilter]:
    """Before the processor, hence after it on the way back: it reads the dynamic metadata that the processor leaves."""
    if spec.stream_filter is None:
        return []
    source = core.DataSource(filename=str(spec.stream_filter))
    return [hcm.HttpFilter(name="stream_filter", typed_config=protobuf.Any.pack(lua.Lua(default_source_code=source)))]


def _access_log(spec: EnvoySpec) -> list[accesslog.AccessLog]:
    return [*_access_log_service(spec), *_access_log_file(spec)]


def _access_log_service(spec: EnvoySpec) -> list[accesslog.AccessLog]:
    """One entry for each exchange that was placed, with all dynamic metadata, to a processor a moment later."""
    if not spec.access_log_service:
        return []
    placed = accesslog.AccessLogFilter(
        metadata_filter=accesslog.MetadataFilter(
            matcher=matcher.MetadataMatcher(
                filter=EXTPROC_NAMESPACE,
                path=[matcher.MetadataMatcherPathSegment(key=PLACED_REQUEST_ID)],
                value=matcher.ValueMatcher(present_match=True),
            ),
            match_if_key_not_found=False,
        )
    )
    sink = grpc_log.HttpGrpcAccessLogConfig(
        common_config=grpc_log.CommonGrpcAccessLogConfig(
            log_name=ACCESS_LOG_NAME,
            grpc_service=core.GrpcService(envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=PROCESSORS_CLUSTER)),
            transport_api_version=core.ApiVersion.V3,
            buffer_flush_interval=timedelta(seconds=spec.access_log_flush),
        )
    )
    return [
        accesslog.AccessLog(name="envoy.access_loggers.http_grpc", filter=placed, typed_config=protobuf.Any.pack(sink))
    ]


def _access_log_file(spec: EnvoySpec) -> list[accesslog.AccessLog]:
    if spec.access_log is None:
        return []
    fields = {name: protobuf.Value(string_value=value) for name, value in _ACCESS_LOG_FIELDS.items()}
    log_format = core.SubstitutionFormatString(json_format=protobuf.Struct(fields=fields), omit_empty_values=True)
    sink = file_log.FileAccessLog(path=str(spec.access_log), log_format=log_format)
    return [accesslog.AccessLog(name="envoy.access_loggers.file", typed_config=protobuf.Any.pack(sink))]
