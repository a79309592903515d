"""The policies: our processor in the filter chain, limits towards clients, and the walk along our list of engines."""

from collections.abc import Iterator
from typing import Final

from aibrix_extproc.core.openai.contract.headers import DESTINATION, RESERVED_REQUEST_HEADERS, SIGNED_CALLER
from aibrix_extproc.core.placing import ATTEMPTS, RETRIES
from aibrix_extproc.doctor.finding import Finding, Severity
from aibrix_extproc.doctor.objects import Thing, at, listed, quantity, seconds
from aibrix_extproc.doctor.setup import Setup
from aibrix_extproc.doctor.workload_checks import destinations

ENOUGH: Final = 10_000  # concurrent requests; Envoy's default is 1,024
LONG_SILENCE: Final = 600.0
LONG_UPLOAD: Final = 60.0
ATTRIBUTES: Final = ("response.code_details", "upstream.address")
NAMESPACES: Final = ("envoy.lb",)


def processor(setup: Setup) -> Iterator[Finding]:
    """The ext_proc filter is configured as the exchange needs it."""
    for policy, entry, field in setup.processors():
        for path, wanted, notice, fix in (
            ("failOpen", True, "running streams are cut when a processor dies, and clients get an empty 500",
             "set failOpen: true; the route fails closed"),
            ("processingMode.allowModeOverride", True, "errors of engines reach clients as the engine words them",
             "set allowModeOverride: true"),
            ("processingMode.request.body", "Buffered", "requests cannot be placed by the model in their body",
             "set request.body: Buffered"),
        ):  # fmt: skip
            if at(entry, path) != wanted:
                yield Finding(Severity.ERROR, policy.subject, f"{field}.{path}", notice, fix)
        if at(entry, "processingMode.response") is None:
            yield Finding(
                Severity.ERROR, policy.subject, f"{field}.processingMode.response",
                "the processor sees no answers: no error is shaped, no load is counted",
                "add response: {attributes: [...]} as the manifests have it",
            )  # fmt: skip
        elif at(entry, "processingMode.response.body") is not None:
            yield Finding(
                Severity.WARNING, policy.subject, f"{field}.processingMode.response.body",
                "every token of every stream costs a message to the processor", "remove it; it asks for what it needs",
            )  # fmt: skip
        yield from _attributes(policy, entry, field)
        yield from _message_timeout(policy, entry, field)


def _attributes(policy: Thing, entry: object, field: str) -> Iterator[Finding]:
    given = listed(entry, "processingMode.response.attributes")
    missing = [name for name in ATTRIBUTES if name not in given]
    if missing:
        yield Finding(
            Severity.ERROR, policy.subject, f"{field}.processingMode.response.attributes",
            f"without {', '.join(missing)} Envoy's own errors are taken for an engine's",
            f"add {', '.join(missing)}",
        )  # fmt: skip
    writable = listed(entry, "metadata.writableNamespaces")
    if any(name not in writable for name in NAMESPACES):
        yield Finding(
            Severity.WARNING, policy.subject, f"{field}.metadata.writableNamespaces",
            "Envoy drops the destination that the processor leaves as metadata", f"add {', '.join(NAMESPACES)}",
        )  # fmt: skip


def _message_timeout(policy: Thing, entry: object, field: str) -> Iterator[Finding]:
    given = at(entry, "messageTimeout")
    found = seconds(given)
    if found is None or found < 1:
        shown = "Envoy's 200 ms" if given is None else given
        yield Finding(
            Severity.ERROR if found == 0 else Severity.WARNING, policy.subject, f"{field}.messageTimeout",
            f"with {shown} large bodies and short stalls become 503", "set messageTimeout: 5s",
        )  # fmt: skip


def processor_backend(setup: Setup) -> Iterator[Finding]:
    """Envoy keeps away from processors that are dead, and does not refuse what engines could queue."""
    for policy, entry, field in setup.processors():
        settings = f"{field}.backendSettings"
        for name in ("maxParallelRequests", "maxPendingRequests"):
            limit = quantity(at(entry, f"backendSettings.circuitBreaker.{name}"))
            if limit is None or limit < ENOUGH:
                yield Finding(
                    Severity.WARNING, policy.subject, f"{settings}.circuitBreaker.{name}",
                    f"the request after number {limit or 1024} that runs at once is a 503",
                    f"set it to {ENOUGH} or more",
                )  # fmt: skip
        if at(entry, "backendSettings.healthCheck.active.type") != "GRPC":
            yield Finding(
                Severity.WARNING, policy.subject, f"{settings}.healthCheck.active",
                "while one of several processors is dead, its share of the requests is 503",
                "set an active health check of type GRPC with the service readiness",
            )  # fmt: skip
        if at(entry, "backendSettings.retry") is not None:
            yield Finding(
                Severity.WARNING, policy.subject, f"{settings}.retry",
                "a dead processor holds every request for up to a second and a half before it fails",
                "remove it; the active health check does better",
            )  # fmt: skip


def overrides(setup: Setup) -> Iterator[Finding]:
    """No policy of a route takes the processor or the picked endpoint away."""
    for policy, route in setup.on_routes("EnvoyExtensionPolicy"):
        if setup.takes_heads_alone(policy, route):
            continue
        yield Finding(
            Severity.ERROR, policy.subject, "spec.targetRefs",
            f"it replaces the Gateway's extension policy on {route.subject}: requests of that route skip the processor",
            "remove it, or move its filters to the Gateway's policy",
        )  # fmt: skip


def early_removal(setup: Setup) -> Iterator[Finding]:
    """Client copies of our headers are removed before routing: the security boundary."""
    policies = setup.on_gateway("ClientTrafficPolicy")
    if not policies:
        yield Finding(
            Severity.ERROR, setup.gateway.subject, "",
            "no ClientTrafficPolicy targets it: clients choose engines by themselves past keys and limits, and bodies"
            " over 32 KiB are 413",
            "apply the manifests' ClientTrafficPolicy",
        )  # fmt: skip
    for policy in policies:
        removed = {str(name).lower() for name in policy.items("spec.headers.earlyRequestHeaders.remove")}
        missing = [name for name in RESERVED_REQUEST_HEADERS if name not in removed]
        if missing:
            yield Finding(
                Severity.ERROR if DESTINATION in missing else Severity.WARNING,
                policy.subject, "spec.headers.earlyRequestHeaders.remove",
                _believed(missing),
                f"add {', '.join(missing)}",
            )  # fmt: skip


def _believed(missing: list[str]) -> str:
    if missing == [SIGNED_CALLER]:
        return (
            f"a client that sends {SIGNED_CALLER} takes the route to the metadata service past keys and limits, and is"
            " stopped by the signature alone"
        )
    return f"a client that sends {missing[0]} is believed" + (
        ": it picks the engine, past keys and limits" if DESTINATION in missing else ""
    )


def client_limits(setup: Setup) -> Iterator[Finding]:
    """Bodies fit and long answers last."""
    for policy in setup.on_gateway("ClientTrafficPolicy"):
        for path, protocol, default in (
            ("spec.connection.bufferLimit", "HTTP/1", "32 KiB"),
            ("spec.http2.initialStreamWindowSize", "HTTP/2", "64 KiB"),
        ):
            limit = quantity(policy.at(path))
            if limit is None or limit < setup.max_body_bytes:
                yield Finding(
                    Severity.ERROR if limit is None else Severity.WARNING, policy.subject, path,
                    f"bodies over {default if limit is None else f'{limit:,} bytes'} are 413 over {protocol}, though"
                    f" the processor takes {setup.max_body_bytes:,}",
                    f"set it to the processor's limits.max_body_bytes, {setup.max_body_bytes:,}",
                )  # fmt: skip
        idle = seconds(policy.at("spec.timeout.http.streamIdleTimeout"))
        if idle is not None and 0 < idle < LONG_SILENCE:
            yield Finding(
                Severity.WARNING, policy.subject, "spec.timeout.http.streamIdleTimeout",
                f"a prompt that is queued for longer than {idle:g} s is 504, a stream that pauses as long is cut",
                "set 3600s",
            )  # fmt: skip
        upload = seconds(policy.at("spec.timeout.http.requestReceivedTimeout"))
        if upload is not None and 0 < upload < LONG_UPLOAD:
            yield Finding(
                Severity.WARNING, policy.subject, "spec.timeout.http.requestReceivedTimeout",
                f"a body that takes longer than {upload:g} s to arrive is 408", "set 300s",
            )  # fmt: skip
        if policy.at("spec.path.escapedSlashesAction") not in ("KeepUnchanged", None):
            yield Finding(
                Severity.WARNING, policy.subject, "spec.path.escapedSlashesAction",
                "models with a slash in their id cannot be retrieved by SDKs that escape it", "set KeepUnchanged",
            )  # fmt: skip


def backend_traffic(setup: Setup) -> Iterator[Finding]:
    """Envoy walks our list, and nothing else."""
    for route in {rule.route for rule in setup.rules() if rule.to_backends}:
        policy = setup.in_force("BackendTrafficPolicy", route)
        if policy is None:
            yield Finding(
                Severity.ERROR, route.subject, "",
                "no BackendTrafficPolicy rules it: Envoy ignores the picked engine and takes any",
                "apply the manifests' BackendTrafficPolicy",
            )  # fmt: skip
        else:
            yield from _endpoint_override(policy)
            yield from _retries(policy, destinations(setup) - 1)
            yield from _backend_limits(policy)


def _endpoint_override(policy: Thing) -> Iterator[Finding]:
    sources = policy.items("spec.loadBalancer.endpointOverride.extractFrom")
    if not any(str(at(one, "header")).lower() == DESTINATION for one in sources):
        yield Finding(
            Severity.ERROR, policy.subject, "spec.loadBalancer.endpointOverride",
            "Envoy ignores the picked engine and takes any, or none",
            f"extract it from the header {DESTINATION}",
        )  # fmt: skip
    if policy.at("spec.healthCheck.panicThreshold") != 0:
        yield Finding(
            Severity.ERROR, policy.subject, "spec.healthCheck.panicThreshold",
            "when no candidate is left, Envoy's panic mode sends the request to an engine of another model",
            "set panicThreshold: 0",
        )  # fmt: skip
    if policy.at("spec.routingType") == "Service":
        yield Finding(
            Severity.ERROR, policy.subject, "spec.routingType", "Envoy knows Services only, and no picked engine",
            "remove it, or set Endpoint",
        )  # fmt: skip


def _retries(policy: Thing, named: int) -> Iterator[Finding]:
    number = quantity(policy.at("spec.retry.numRetries"))
    if number is None or number == 0:
        yield Finding(
            Severity.WARNING, policy.subject, "spec.retry",
            "an engine that dies fails its requests, though others could take them",
            ("" if named else f"set the processor's routing.destinations to {ATTEMPTS}, and ")
            + f"set numRetries: {named or RETRIES} with the triggers connect-failure, reset and retriable-status-codes",
        )  # fmt: skip
    elif number > named:
        yield Finding(
            Severity.WARNING, policy.subject, "spec.retry.numRetries",
            f"our list has an entry for {named} retries; further ones find none and are 503",
            f"set numRetries: {named}, or the processor's routing.destinations to {number + 1}",
        )  # fmt: skip
    limit = seconds(policy.at("spec.retry.perRetry.timeout"))
    if limit:
        yield Finding(
            Severity.ERROR, policy.subject, "spec.retry.perRetry.timeout",
            f"every answer is cut after {limit:g} s, and generated again", "remove it",
        )  # fmt: skip


def _backend_limits(policy: Thing) -> Iterator[Finding]:
    for path, kind in (
        ("spec.timeout.http.streamIdleTimeout", "a prompt that is queued, or a stream that pauses,"),
        ("spec.timeout.http.maxStreamDuration", "every answer that lasts"),
    ):
        limit = seconds(policy.at(path))
        if limit is not None and 0 < limit < LONG_SILENCE:
            yield Finding(
                Severity.WARNING, policy.subject, path, f"{kind} longer than {limit:g} s is cut", "remove it, or 3600s"
            )
    for name in ("maxParallelRequests", "maxPendingRequests", "maxConnections"):
        limit_ = quantity(policy.at(f"spec.circuitBreaker.{name}"))
        if limit_ is None or limit_ < ENOUGH:
            yield Finding(
                Severity.WARNING, policy.subject, f"spec.circuitBreaker.{name}",
                f"the request after number {limit_ or 1024} that runs at once is a 503", f"set it to {ENOUGH} or more",
            )  # fmt: skip
    if policy.items("spec.responseOverride"):
        yield Finding(
            Severity.WARNING, policy.subject, "spec.responseOverride",
            "it rewrites answers of ours with the statuses that it names", "remove it; the processor shapes all errors",
        )  # fmt: skip
    for path in ("spec.compression", "spec.compressor"):
        if policy.at(path):
            yield Finding(
                Severity.WARNING, policy.subject, path,
                "streams arrive in bursts, and the processor cannot read errors", "remove it for this route",
            )  # fmt: skip


CHECKS: Final = (processor, processor_backend, overrides, early_removal, client_limits, backend_traffic)
