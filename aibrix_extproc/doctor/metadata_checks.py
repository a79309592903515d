"""The way to the metadata service: its route, its policy, its Service, and who may connect."""

from collections.abc import Iterator
from typing import Any, Final

from aibrix_extproc.core.openai.contract.headers import SIGNED_CALLER
from aibrix_extproc.core.openai.contract.operation_rows import UPLOAD_PATHS
from aibrix_extproc.doctor.finding import Finding, Severity
from aibrix_extproc.doctor.network_checks import OWNING_NAME, OWNING_NAMESPACE, closes, opens
from aibrix_extproc.doctor.objects import Thing, at, listed, quantity
from aibrix_extproc.doctor.process import ENV, process_of
from aibrix_extproc.doctor.setup import Rule, Setup
from aibrix_extproc.doctor.workload_checks import LOOPBACK

WHAT: Final = "files, uploads and batches"
_OFF: Final = ("", "false", "0", "no")
_SOURCES: Final = (
    ("kubernetes", "enabled", "--kubernetes"), ("fleet", "file", "--fleet"), ("fleet", "endpoints", "--endpoint"),
)  # fmt: skip


def handed_over(setup: Setup) -> Iterator[Finding]:
    """The processors hand over if, and only if, there is a way."""
    rules = list(setup.metadata_rules())
    for deployment in setup.deployments():
        process = process_of(setup.cluster, deployment)
        value = process.setting("metadata", "enabled", "--metadata")
        on = value is not None and value.lower() not in _OFF
        if on and not rules:
            yield Finding(
                Severity.ERROR, setup.gateway.subject, "",
                f"no HTTPRoute of it has a rule for requests with {SIGNED_CALLER}, and the processor hands {WHAT} over:"
                " they are all 503",
                "add the component metadata or metadata-volume whole, or drop --metadata",
            )  # fmt: skip
        if rules and not on and not process.unseen:
            yield Finding(
                Severity.ERROR, deployment.subject, f"{process.field}.env",
                f"there is a route to the metadata service, and the processor hands nothing over: {WHAT} are 404",
                "set metadata.enabled (--metadata), or remove the route",
            )  # fmt: skip


def followed(setup: Setup) -> Iterator[Finding]:
    """Processors that hand over follow the service's control state, too."""
    for deployment in setup.deployments():
        process = process_of(setup.cluster, deployment)
        value = process.setting("metadata", "enabled", "--metadata")
        if value is None or value.lower() in _OFF or process.unseen:
            continue
        if not process.setting("control", "url", "--control-url"):
            yield Finding(
                Severity.WARNING, deployment.subject, f"{process.field}.env",
                "it hands over to the metadata service and does not follow it: cordons, keys and limits have no"
                " effect",
                "set control.url (--control-url) to the Service of the metadata service, port 9010",
            )  # fmt: skip


def signed_route(setup: Setup) -> Iterator[Finding]:
    """The route opens for our header, and leaves it alone."""
    for rule in setup.metadata_rules():
        if not rule.signed:
            yield Finding(
                Severity.ERROR, rule.route.subject, f"{rule.field}.matches",
                f"it leads to the metadata service without the header {SIGNED_CALLER}: it takes requests for engines"
                f" away from them, and what comes while the processor is away is 401",
                f"match the header {SIGNED_CALLER} by the regular expression .+",
            )  # fmt: skip
        if not any(at(one, "path.value") in (None, "/") for one in listed(rule.content, "matches") or [{}]):
            yield Finding(
                Severity.ERROR, rule.route.subject, f"{rule.field}.matches",
                "it does not take every path: operations of administrators, outside of /v1, are all 503",
                "match the path prefix /; the header keeps other requests out",
            )  # fmt: skip
        for index, one in enumerate(listed(rule.content, "filters")):
            names = [
                *listed(one, "requestHeaderModifier.remove"),
                *(at(each, "name") for each in listed(one, "requestHeaderModifier.set")),
            ]
            if any(str(name).lower() == SIGNED_CALLER for name in names):
                yield Finding(
                    Severity.ERROR, rule.route.subject, f"{rule.field}.filters[{index}].requestHeaderModifier",
                    f"it takes the caller away: {WHAT} are all 401",
                    "remove it; client copies are removed by the ClientTrafficPolicy",
                )  # fmt: skip


def streamed(setup: Setup) -> Iterator[Finding]:
    """Bodies of any size pass, and Envoy keeps none of them."""
    for route in dict.fromkeys(rule.route for rule in setup.metadata_rules()):
        policy = setup.in_force("BackendTrafficPolicy", route)
        if policy is None:
            yield Finding(
                Severity.WARNING, route.subject, "",
                "no BackendTrafficPolicy rules it: the request after number 1,024 that runs at once is a 503",
                "apply the manifests' BackendTrafficPolicy aibrix-extproc-metadata",
            )  # fmt: skip
            continue
        limit = policy.at("spec.requestBuffer.limit")
        if policy.at("spec.requestBuffer") is not None:
            yield Finding(
                Severity.ERROR, policy.subject, "spec.requestBuffer",
                f"Envoy holds each upload whole, and those over {limit or 'its limit'} are 413", "remove it",
            )  # fmt: skip
        if policy.items("spec.loadBalancer.endpointOverride.extractFrom"):
            continue  # the Gateway's, made for engines
        if quantity(policy.at("spec.retry.numRetries")) or policy.mapping("spec.retry.retryOn"):
            yield Finding(
                Severity.WARNING, policy.subject, "spec.retry",
                "for another attempt Envoy keeps up to connection.bufferLimit of every upload that runs",
                "remove it; SDKs try again by themselves",
            )  # fmt: skip


def waits(setup: Setup) -> Iterator[Finding]:
    """Uploads wait for the processor on routes where Envoy holds no bodies for it."""
    if next(setup.metadata_rules(), None) is None:
        return
    own = [route for policy, route in setup.on_routes("EnvoyExtensionPolicy") if setup.takes_heads_alone(policy, route)]
    waiting = [rule for rule in setup.rules() if rule.route in own and not rule.to_backends]
    for path in UPLOAD_PATHS:
        if not any(path in rule.prefixes for rule in waiting):
            yield Finding(
                Severity.WARNING, setup.gateway.subject, "",
                f"no HTTPRoute with an extension policy of its own takes {path}: an upload larger than Envoy's buffer"
                " is 413 if the processor is slow to answer for its head",
                "apply the manifests' HTTPRoute and EnvoyExtensionPolicy aibrix-extproc-uploads",
            )  # fmt: skip
    signed = {
        str(at(match, "path.value") or "/").rstrip("/")
        for rule in setup.metadata_rules() if rule.signed
        for match in listed(rule.content, "matches")
    }  # fmt: skip
    for rule in setup.rules():
        for path in sorted(rule.prefixes & set(UPLOAD_PATHS) - signed) if not rule.to_backends else ():
            yield Finding(
                Severity.ERROR, rule.route.subject, f"{rule.field}.matches",
                f"it takes every request below {path}, signed or not: they are all 503",
                f"give the rule to the metadata service a match with the path {path} and the header {SIGNED_CALLER}",
            )  # fmt: skip


def served(setup: Setup) -> Iterator[Finding]:
    """Behind the route there is a Service, and it has endpoints."""
    for rule in setup.metadata_rules():
        for index, ref in enumerate(listed(rule.content, "backendRefs")):
            namespace, name = at(ref, "namespace") or rule.route.namespace, str(at(ref, "name"))
            field = f"{rule.field}.backendRefs[{index}]"
            service = setup.cluster.find("Service", namespace, name)
            if service is None and "Service" not in setup.cluster.unread:
                yield Finding(
                    Severity.ERROR, rule.route.subject, field,
                    f"there is no Service {name}: {WHAT} are all 503 storage_unavailable",
                    "apply the component metadata or metadata-volume whole",
                )  # fmt: skip
            elif service is not None and str(at(ref, "port")) not in _ports(service):
                yield Finding(
                    Severity.ERROR, rule.route.subject, f"{field}.port",
                    f"{service.subject} has no port {at(ref, 'port')}: {WHAT} are all 503", "name its port `api`",
                )  # fmt: skip
        yield from _somebody(setup, rule)


def _somebody(setup: Setup, rule: Rule) -> Iterator[Finding]:
    behind = setup.backends_of(rule)
    if not behind and "Deployment" not in setup.cluster.unread:
        yield Finding(
            Severity.ERROR, rule.route.subject, f"{rule.field}.backendRefs",
            f"no Deployment is behind it: {WHAT} are all 503 storage_unavailable",
            "apply the component metadata or metadata-volume whole",
        )  # fmt: skip
    for deployment in behind:
        process = process_of(setup.cluster, deployment)
        if process.setting("metadata", "role", "--role") == "worker":
            yield Finding(
                Severity.ERROR, deployment.subject, process.field,
                f"its role is worker, which answers no requests: {WHAT} are all 503", "run it with --role api",
            )  # fmt: skip
        host = process.setting("metadata", "host", "--metadata-host")
        if host is not None and LOOPBACK.fullmatch(host):
            yield Finding(
                Severity.ERROR, deployment.subject, f"{process.field}.env",
                f"it listens on {host}, where no Envoy reaches it: {WHAT} are all 503",
                f"set {ENV}METADATA__HOST to 0.0.0.0, or to :: with IPv6",
            )  # fmt: skip
        if not process.unseen and all((process.setting(*one) or "").lower() in _OFF for one in _SOURCES):
            yield Finding(
                Severity.WARNING, deployment.subject, f"{process.field}.env",
                "it has no source of engines: operations on engines are 503 no_fleet",
                f"set {ENV}KUBERNETES__ENABLED to true, and bind the role that reads pods to its service account",
            )  # fmt: skip


def ready(setup: Setup) -> Iterator[Finding]:
    """In a running cluster, every Deployment of the service has a ready pod."""
    for deployment in setup.metadata_deployments() if setup.cluster.live else ():
        if quantity(deployment.at("status.readyReplicas")):
            continue
        worker = process_of(setup.cluster, deployment).setting("metadata", "role", "--role") == "worker"
        yield Finding(
            Severity.ERROR, deployment.subject, "status.readyReplicas",
            "no worker is ready: batches do not go on" if worker
            else f"no pod of the metadata service is ready: {WHAT} are all 503",
            "`kubectl describe pods` says why they do not start (a Secret or a volume that is missing), their logs why"
            " they are not ready (database, storage)",
        )  # fmt: skip


def envoys_reach_it(setup: Setup) -> Iterator[Finding]:
    """NetworkPolicies let the Gateway's Envoys in, as far as labels tell."""
    for rule in setup.metadata_rules():
        for deployment in setup.backends_of(rule):
            closing = [one for one in setup.cluster.all("NetworkPolicy") if closes(one, deployment)]
            ports = _targets(setup, rule, deployment)
            if ports and closing and not any(opens(setup.gateway, one, ports) for one in closing):
                yield Finding(
                    Severity.ERROR, closing[0].subject, "spec.ingress",
                    f"it keeps the Envoys of {setup.gateway.subject} from the metadata service: {WHAT} are all 503",
                    f"let in pods with {OWNING_NAME}: {setup.gateway.name} and {OWNING_NAMESPACE}:"
                    f" {setup.gateway.namespace}",
                )  # fmt: skip


def _ports(service: Thing) -> set[str]:
    return {str(at(port, "port")) for port in service.items("spec.ports")}


def _targets(setup: Setup, rule: Rule, deployment: Thing) -> set[str]:
    """Number and name of the ports that the rule's Services lead to."""
    found = set()
    for ref in listed(rule.content, "backendRefs"):
        service = setup.cluster.find("Service", at(ref, "namespace") or rule.route.namespace, str(at(ref, "name")))
        for port in service.items("spec.ports") if service is not None else ():
            if at(port, "port") == at(ref, "port"):
                found.add(str(at(port, "targetPort") or at(port, "port")))
    for container in deployment.items("spec.template.spec.containers"):
        found |= _both_names(container, found)
    return found


def _both_names(container: Any, wanted: set[str]) -> set[str]:
    both = ({str(at(port, "name")), str(at(port, "containerPort"))} for port in listed(container, "ports"))
    return {name for names in both if names & wanted for name in names}


CHECKS: Final = (handed_over, followed, signed_route, streamed, waits, served, ready, envoys_reach_it)
