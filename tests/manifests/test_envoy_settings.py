"""Envoy in a cluster behaves as the one of `aibrix-extproc local`: the policies say what its configuration says."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aibrix_extproc.adapters.envoyproxy import clusters, listener
from aibrix_extproc.adapters.envoyproxy.replies import THE_REQUESTS_ID, preflight
from aibrix_extproc.adapters.envoyproxy.spec import METADATA_NAMESPACES, MIB, STREAM_FILTER, EnvoySpec, SocketAddress
from aibrix_extproc.core.openai.contract.errors import Problem, shape
from aibrix_extproc.core.openai.contract.headers import (
    DESTINATION,
    EXTPROC_NAMESPACE,
    REQUEST_ID,
    RESERVED_REQUEST_HEADERS,
    SIGNED_CALLER,
)
from aibrix_extproc.core.openai.contract.operation_rows import ANTHROPIC_PATH, UPLOAD_PATHS
from aibrix_extproc.core.openai.wire.cors import response_headers
from aibrix_extproc.core.placing import RETRIES
from aibrix_extproc.settings import Settings
from aibrix_extproc.webserver import KEEPALIVE_SECONDS
from tests.manifests.built import BUILDS, MANIFESTS, built, of_kind, only

pytestmark = pytest.mark.slow  # each build takes kubectl half a second

ANY = SocketAddress("127.0.0.1", 1)
SPEC = EnvoySpec(listen=ANY, admin=ANY, processors=(ANY,), endpoints_directory=Path("."))
LUA = "components/metering"
UPLOADS = "aibrix-extproc-uploads"
METADATA = ("components/metadata", "components/metadata-volume")
SPEC_WITH_METADATA = replace(SPEC, metadata=ANY)
GATEWAYS = tuple(build for build in BUILDS if not build.startswith("examples/") and build != "overlays/picker")
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def spec(kind: str, build: str = "base", name: str = "aibrix-extproc") -> Mapping[str, Any]:
    found: Mapping[str, Any] = only(built(build), kind, name)["spec"]
    return found


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", text).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def size(text: str) -> int:
    assert text.endswith("Mi")
    return int(text.removesuffix("Mi")) * MIB


def ext_proc() -> Mapping[str, Any]:
    (one,) = spec("EnvoyExtensionPolicy")["extProc"]
    found: Mapping[str, Any] = one
    return found


@pytest.mark.parametrize("build", GATEWAYS)
def test_headers_that_only_we_may_set_are_removed_before_routing(build: str) -> None:
    """The security boundary: a client that could set the destination header would choose the engine."""
    removal = spec("ClientTrafficPolicy", build)["headers"]["earlyRequestHeaders"]
    assert sorted(removal["remove"]) == sorted(RESERVED_REQUEST_HEADERS)
    assert removal["removeOnMatch"] == [{"type": "Prefix", "value": "x-envoy-"}]
    assert set(removal) == {"remove", "removeOnMatch"}


@pytest.mark.parametrize("build", GATEWAYS)
def test_policies_are_on_the_gateway_where_no_route_can_be_without_them(build: str) -> None:
    for kind in ("ClientTrafficPolicy", "EnvoyExtensionPolicy"):
        assert [(one["kind"], one["name"]) for one in spec(kind, build)["targetRefs"]] == [
            ("Gateway", "aibrix-extproc")
        ]


@pytest.mark.parametrize("build", GATEWAYS)
def test_filter_fails_open_and_the_only_route_to_engines_needs_our_header(build: str) -> None:
    assert spec("EnvoyExtensionPolicy", build)["extProc"][0]["failOpen"] is True
    route = only(built(build), "HTTPRoute", "aibrix-extproc")
    placed = [rule for rule in route["spec"]["rules"] if rule.get("backendRefs")]
    assert [match["headers"] for rule in placed for match in rule["matches"]] == [
        [{"name": DESTINATION, "type": "RegularExpression", "value": ".+"}]
    ] * 2
    # The longest prefix wins; of equal ones that with a method, then that with a header.
    for rule in route["spec"]["rules"]:
        prefixes = [match["path"]["value"] for match in rule["matches"]]
        both = not rule["name"].startswith("not-placed")
        assert prefixes == (["/", ANTHROPIC_PATH] if both else [ANTHROPIC_PATH if "anthropic" in rule["name"] else "/"])


@pytest.mark.parametrize("build", METADATA)
def test_route_to_the_metadata_service_needs_our_header_and_bounds_no_body(build: str) -> None:
    ours = listener._to_metadata(SPEC_WITH_METADATA)[0]
    (rule,) = only(built(build), "HTTPRoute", "aibrix-extproc-metadata")["spec"]["rules"]
    assert [one.name for one in ours.match.headers] == [SIGNED_CALLER]
    assert rule["matches"] == [
        {
            "path": {"type": "PathPrefix", "value": path},
            "headers": [{"name": SIGNED_CALLER, "type": "RegularExpression", "value": ".+"}],
        }
        for path in (ours.match.prefix, *UPLOAD_PATHS)
    ]
    assert rule["timeouts"] == {"request": "0s"}
    assert rule["filters"] == [{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["server"]}}]
    (service,) = [
        one for one in of_kind(built(build), "Service") if one["metadata"]["name"] == "aibrix-extproc-metadata"
    ]
    assert {"name": "aibrix-extproc-metadata", "port": Settings().metadata.port} == rule["backendRefs"][0]
    assert "api" in {one["name"] for one in service["spec"]["ports"]}


@pytest.mark.parametrize("build", METADATA)
def test_uploads_wait_for_the_processor_where_envoy_holds_no_bodies_for_it(build: str) -> None:
    """They meet the Gateway's processors, and without them the answers of the Gateway's route."""
    policy, whole = spec("EnvoyExtensionPolicy", build, UPLOADS), spec("EnvoyExtensionPolicy", build)
    assert [(one["kind"], one["name"]) for one in policy["targetRefs"]] == [("HTTPRoute", UPLOADS)]
    (entry,), (gateways,) = policy["extProc"], whole["extProc"]
    assert gateways["processingMode"]["request"] == {"body": "Buffered"}
    assert entry == {**gateways, "processingMode": {**gateways["processingMode"], "request": {}}}
    rules = {rule["name"]: rule for rule in spec("HTTPRoute", build, UPLOADS)["rules"]}
    others = {rule["name"]: rule for rule in spec("HTTPRoute", build)["rules"]}
    assert not any(rule.get("backendRefs") for rule in rules.values())
    for name, other in (("not-handed-over", "not-placed"), ("preflight", "preflight")):
        assert rules[name]["filters"] == others[other]["filters"]
        first = others[other]["matches"][0]
        assert rules[name]["matches"] == [
            {**first, "path": {"type": "PathPrefix", "value": path}} for path in UPLOAD_PATHS
        ]


@pytest.mark.parametrize("build", METADATA)
def test_policy_towards_the_metadata_service_holds_no_upload_back(build: str) -> None:
    policy = only(built(build), "BackendTrafficPolicy", "aibrix-extproc-metadata")["spec"]
    ours = clusters.metadata(ANY)
    assert not {"retry", "requestBuffer", "compression", "responseOverride"} & policy.keys()
    assert "endpointOverride" not in policy["loadBalancer"]
    assert seconds(policy["timeout"]["tcp"]["connectTimeout"]) == ours.connect_timeout.total_seconds()
    assert size(policy["connection"]["bufferLimit"]) == ours.per_connection_buffer_limit_bytes
    assert seconds(policy["timeout"]["http"]["connectionIdleTimeout"]) < KEEPALIVE_SECONDS
    assert policy["circuitBreaker"] == spec("BackendTrafficPolicy")["circuitBreaker"]


def test_route_to_the_processor_is_one_that_no_client_can_take() -> None:
    """It is there for Envoy Gateway, which hands the Envoys' certificate on for it."""
    things = built("components/mutual-tls")
    (rule,) = only(things, "HTTPRoute", "aibrix-extproc-certificate")["spec"]["rules"]
    (match,) = rule["matches"]
    removed = spec("ClientTrafficPolicy", "components/mutual-tls")["headers"]["earlyRequestHeaders"]["remove"]
    assert any(header["name"] in removed and header["type"] == "Exact" for header in match["headers"])
    assert rule["backendRefs"] == spec("EnvoyExtensionPolicy", "components/mutual-tls")["extProc"][0]["backendRefs"]


@pytest.mark.parametrize(
    ("suffix", "path", "anthropic"),
    [("", "/", False), ("-anthropic", ANTHROPIC_PATH, True)],
    ids=["openai", "anthropic"],
)
def test_catch_all_answers_what_envoy_of_local_answers(suffix: str, path: str, anthropic: bool) -> None:
    said = shape(Problem("gateway_unavailable"), anthropic=anthropic)
    direct = only(built("base"), "HTTPRouteFilter", f"aibrix-extproc-unavailable{suffix}")["spec"]["directResponse"]
    assert direct["statusCode"] == said.status
    assert direct["body"]["inline"] == said.body.decode()
    (catch_all,) = [rule for rule in spec("HTTPRoute")["rules"] if rule["name"] == f"not-placed{suffix}"]
    assert catch_all["matches"] == [{"path": {"type": "PathPrefix", "value": path}}]
    (modifier,) = [one["responseHeaderModifier"] for one in catch_all["filters"] if "responseHeaderModifier" in one]
    headers = {one["name"]: one["value"] for one in modifier["set"]} | {"content-type": direct["contentType"]}
    readable = dict(response_headers("%REQ(ORIGIN)%"))
    assert headers == {**dict(said.headers), REQUEST_ID: THE_REQUESTS_ID, **readable}


def test_preflights_without_a_processor_are_answered_as_envoy_of_local_answers() -> None:
    (rule,) = [rule for rule in spec("HTTPRoute")["rules"] if rule["name"] == "preflight"]
    asks = [{"name": "access-control-request-method", "type": "RegularExpression", "value": ".+"}]
    assert [(match["method"], match["headers"]) for match in rule["matches"]] == [("OPTIONS", asks)] * 2
    (modifier,) = [one["responseHeaderModifier"] for one in rule["filters"] if "responseHeaderModifier" in one]
    ours = {one.header.key: one.header.value for one in preflight()}
    assert {one["name"]: one["value"] for one in modifier["set"]} == {**ours, REQUEST_ID: THE_REQUESTS_ID}
    assert only(built("base"), "HTTPRouteFilter", "aibrix-extproc-preflight")["spec"] == {
        "directResponse": {"statusCode": 204}
    }


def test_answers_of_engines_have_the_request_s_id_even_if_we_died_meanwhile() -> None:
    (modifier,) = [one["responseHeaderModifier"] for one in spec("HTTPRoute")["rules"][0]["filters"]]
    assert modifier == {"set": [{"name": REQUEST_ID, "value": THE_REQUESTS_ID}], "remove": ["server"]}


def test_retries_are_what_the_destination_list_is_long_enough_for() -> None:
    policy = spec("BackendTrafficPolicy")
    retry = policy["retry"]
    assert retry["numRetries"] == RETRIES == SPEC.retries
    assert ",".join(retry["retryOn"]["triggers"]) == listener.RETRY_ON
    assert tuple(retry["retryOn"]["httpStatusCodes"]) == listener.RETRIED_STATUSES
    back_off = listener._placed(SPEC).route.retry_policy.retry_back_off
    assert seconds(retry["perRetry"]["backOff"]["baseInterval"]) == back_off.base_interval.total_seconds()
    assert seconds(retry["perRetry"]["backOff"]["maxInterval"]) == back_off.max_interval.total_seconds()


def test_engines_are_reached_by_our_header_and_never_by_chance() -> None:
    policy = spec("BackendTrafficPolicy")
    assert policy["loadBalancer"]["endpointOverride"]["extractFrom"] == [{"header": DESTINATION}]
    assert policy["healthCheck"]["panicThreshold"] == 0
    ours = clusters.engines(SPEC)
    assert seconds(policy["timeout"]["tcp"]["connectTimeout"]) == SPEC.connect_timeout
    assert seconds(policy["timeout"]["http"]["requestTimeout"]) == 0
    assert spec("HTTPRoute")["rules"][0]["timeouts"] == {"request": "0s"}
    assert size(policy["connection"]["bufferLimit"]) == ours.per_connection_buffer_limit_bytes


def test_circuit_breakers_are_as_wide_as_those_of_local() -> None:
    (ours,) = clusters.engines(SPEC).circuit_breakers.thresholds
    wanted = {
        "maxConnections": ours.max_connections,
        "maxPendingRequests": ours.max_pending_requests,
        "maxParallelRequests": ours.max_requests,
        "maxParallelRetries": ours.max_retries,
    }
    assert spec("BackendTrafficPolicy")["circuitBreaker"] == wanted
    assert ext_proc()["backendSettings"]["circuitBreaker"] == wanted


def test_ext_proc_filter_is_that_of_local() -> None:
    filter_of_local = listener._ext_proc(SPEC)
    policy = ext_proc()
    assert seconds(policy["messageTimeout"]) == SPEC.message_timeout
    assert policy["processingMode"] == {
        "allowModeOverride": filter_of_local.allow_mode_override,
        "request": {"body": "Buffered"},
        "response": {"attributes": list(listener.RESPONSE_ATTRIBUTES)},
    }
    assert policy["metadata"] == {"writableNamespaces": list(METADATA_NAMESPACES)}


def test_processors_are_checked_as_those_of_local() -> None:
    ours = clusters.processors(SPEC)
    settings = ext_proc()["backendSettings"]
    (check,) = ours.health_checks
    active = settings["healthCheck"]["active"]
    assert active["grpc"]["service"] == check.grpc_health_check.service_name
    assert seconds(active["timeout"]) == check.timeout.total_seconds()
    assert seconds(active["interval"]) == check.interval.total_seconds()
    assert (active["unhealthyThreshold"], active["healthyThreshold"]) == (1, 1)
    passive, outlier = settings["healthCheck"]["passive"], ours.outlier_detection
    assert passive["consecutiveLocalOriginFailures"] == outlier.consecutive_local_origin_failure
    assert seconds(passive["interval"]) == outlier.interval.total_seconds()
    assert seconds(passive["baseEjectionTime"]) == outlier.base_ejection_time.total_seconds()
    assert passive["maxEjectionPercent"] == outlier.max_ejection_percent
    assert seconds(settings["timeout"]["tcp"]["connectTimeout"]) == ours.connect_timeout.total_seconds()


def test_largest_body_fits_through_both_versions_of_http() -> None:
    policy = spec("ClientTrafficPolicy")
    largest = Settings().limits.max_body_bytes
    assert size(policy["connection"]["bufferLimit"]) == largest == SPEC.max_body_bytes
    assert size(policy["http2"]["initialStreamWindowSize"]) == largest
    assert size(policy["http2"]["initialConnectionWindowSize"]) == 2 * largest


def test_times_towards_clients_are_those_of_local() -> None:
    times = spec("ClientTrafficPolicy")["timeout"]["http"]
    assert seconds(times["requestReceivedTimeout"]) == SPEC.request_timeout
    assert seconds(times["streamIdleTimeout"]) == SPEC.stream_idle_timeout
    # A silence that is allowed must not be cut by a change of configuration either.
    assert seconds(spec("EnvoyProxy")["shutdown"]["drainTimeout"]) >= SPEC.stream_idle_timeout


def test_paths_and_request_ids_are_treated_as_by_local() -> None:
    policy = spec("ClientTrafficPolicy")
    assert policy["path"] == {"escapedSlashesAction": "KeepUnchanged", "disableMergeSlashes": True}
    assert policy["headers"]["requestID"] == "Generate"
    assert policy["headers"]["withUnderscoresAction"] == "Allow"


def test_access_log_in_json_has_the_fields_of_local() -> None:
    settings = spec("EnvoyProxy")["telemetry"]["accessLog"]["settings"]
    (written,) = [one["format"]["json"] for one in settings if "format" in one]
    fields = dict(listener._ACCESS_LOG_FIELDS)
    del fields["ext_proc"]  # Envoy Gateway gives the filter a name of its own
    assert written == fields


def test_stream_filter_in_the_manifests_is_the_package_s() -> None:
    copied = (MANIFESTS / LUA / "stream_filter.lua").read_bytes()
    assert copied == STREAM_FILTER.read_bytes(), "run: make reference"
    (config,) = [one for one in of_kind(built(LUA), "ConfigMap") if "lua" in one["data"]]
    assert config["data"]["lua"] == STREAM_FILTER.read_text(encoding="utf-8")


def test_metering_tells_processors_of_exactly_the_exchanges_that_were_placed() -> None:
    settings = spec("EnvoyProxy", LUA)["telemetry"]["accessLog"]["settings"]
    (sink,) = [one for one in settings if one["sinks"][0]["type"] == "ALS"]
    assert EXTPROC_NAMESPACE in sink["matches"][0]
    assert sink["sinks"][0]["als"]["logName"] == listener.ACCESS_LOG_NAME
