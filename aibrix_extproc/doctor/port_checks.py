"""Checks of who may talk to the ext_proc port: NetworkPolicies, client certificates, the keys that replicas share."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from aibrix_extproc.doctor.finding import Finding, Severity
from aibrix_extproc.doctor.network_checks import closes
from aibrix_extproc.doctor.objects import Cluster, Thing, at, listed
from aibrix_extproc.doctor.process import Process, process_of
from aibrix_extproc.doctor.setup import Setup

DEFAULT_PORT: Final = "9002"
_RISK: Final = (
    "whoever reaches it reads engine addresses and keys out of its answers, and takes its connections and streams"
)
_OFF: Final = ("", "false", "0", "no")


def guarded(setup: Setup) -> Iterator[Finding]:
    """The processor's port is not open to the whole cluster, and certificates fit on both sides."""
    for deployment in setup.deployments():
        process = process_of(setup.cluster, deployment)
        yield from of_port(setup.cluster, process)
        yield from _certificates(setup, process)
        yield from _note_keys(process)


def unreachable(setup: Setup) -> Iterator[Finding]:
    """No route of the Gateway leads clients to the processor, with its Envoys' certificate."""
    removed = {
        str(name).lower()
        for policy in setup.on_gateway("ClientTrafficPolicy")
        for name in policy.items("spec.headers.earlyRequestHeaders.remove")
    }  # fmt: skip
    for rule in setup.processor_rules():
        matches = listed(rule.content, "matches") or [{}]
        if not all(any(_name(one) in removed for one in listed(match, "headers")) for match in matches):
            yield Finding(
                Severity.ERROR, rule.route.subject, f"{rule.field}.matches",
                f"clients reach the processor by it, with the Envoys' certificate: {_RISK}",
                "match a header that earlyRequestHeaders.remove of the ClientTrafficPolicy names, or remove the rule",
            )  # fmt: skip


def _name(header: Any) -> str:
    return str(at(header, "name")).lower()


def of_port(cluster: Cluster, process: Process) -> Iterator[Finding]:
    """Findings about one Deployment by itself."""
    yield from _probes(process)
    if asks_for_certificates(process):
        return
    deployment = process.deployment
    closing = [one for one in cluster.all("NetworkPolicy") if closes(one, deployment)]
    if not closing and _tells(cluster):
        yield Finding(
            Severity.WARNING, deployment.subject, f"{process.field}.ports",
            f"its port {_port(process)} is open to the whole cluster: {_RISK}",
            "let only your gateway's pods in by a NetworkPolicy, or ask for client certificates (component mutual-tls)",
        )  # fmt: skip
    for one in closing:
        if _open_to_all(one, _names(process)):
            yield Finding(
                Severity.WARNING, one.subject, "spec.ingress",
                f"it lets everybody in at port {_port(process)}: {_RISK}",
                "name your gateway's pods at `from`, or ask for client certificates (component mutual-tls)",
            )  # fmt: skip


def _tells(cluster: Cluster) -> bool:
    """Whether the absence of a NetworkPolicy means anything: a Deployment alone is no installation."""
    return cluster.knows("NetworkPolicy") if cluster.live else any(cluster.all("Service"))


def asks_for_certificates(process: Process) -> bool:
    """Whether it takes connections with client certificates only."""
    return bool(process.setting("server", "tls_client_ca", "--tls-client-ca"))


def _port(process: Process) -> str:
    return process.setting("server", "port", "--port") or DEFAULT_PORT


def _names(process: Process) -> set[str]:
    """Number and name of the port, as a NetworkPolicy may call it."""
    number = _port(process)
    named = {
        str(at(one, "name")) for one in listed(process.container, "ports") if str(at(one, "containerPort")) == number
    }
    return {number, *named}


def _open_to_all(policy: Thing, port: set[str]) -> bool:
    return any(
        not listed(rule, "from") or any(_anybody(peer) for peer in listed(rule, "from"))
        for rule in policy.items("spec.ingress")
        if not listed(rule, "ports") or any(_is_of(one, port) for one in listed(rule, "ports"))
    )


def _is_of(given: Any, port: set[str]) -> bool:
    return at(given, "port") is None or str(at(given, "port")) in port


def _anybody(peer: Any) -> bool:
    """Every pod of every namespace, or every address."""
    if at(peer, "ipBlock.cidr") in ("0.0.0.0/0", "::/0"):
        return True
    namespaces = at(peer, "namespaceSelector")
    return (
        _is_empty(namespaces)
        and at(peer, "podSelector.matchLabels") is None
        and not (at(peer, "podSelector.matchExpressions"))
    )


def _is_empty(selector: Any) -> bool:
    return isinstance(selector, Mapping) and not at(selector, "matchLabels") and not at(selector, "matchExpressions")


def _probes(process: Process) -> Iterator[Finding]:
    """The kubelet has no certificate."""
    if not asks_for_certificates(process):
        return
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        if str(at(process.container, f"{kind}.grpc.port")) == _port(process):
            yield Finding(
                Severity.ERROR, process.deployment.subject, f"{process.field}.{kind}",
                "it asks the port that wants client certificates, and the kubelet has none: the pod is never ready",
                "set server.health_port (--health-port), and ask that one",
            )  # fmt: skip


def _certificates(setup: Setup, process: Process) -> Iterator[Finding]:
    """Findings about client certificates: a processor that asks for them needs an Envoy Gateway that gives them."""
    services = [(one.namespace, one.name) for one in setup.processor_services()]
    policies = list(setup.cluster.all("BackendTLSPolicy"))
    if process.setting("server", "tls", "--tls") in (None, "none") and not process.unseen:
        yield from (_left_behind(one) for one in policies if _targets(one, services))
    if not asks_for_certificates(process):
        return
    if "BackendTLSPolicy" not in setup.cluster.unread and not any(_targets(one, services) for one in policies):
        yield Finding(
            Severity.ERROR, process.deployment.subject, process.field,
            "it asks for client certificates, and no BackendTLSPolicy makes the Envoys speak TLS with its Service:"
            " every request is 503",
            "add the component mutual-tls whole, or drop server.tls_client_ca",
        )  # fmt: skip
    if not any(True for _ in setup.processor_rules()):
        yield Finding(
            Severity.ERROR, setup.gateway.subject, "",
            "no route names the processor's Service, and without one Envoy Gateway (up to 1.9) does not hand the"
            " Envoys' certificate on: every request is 503",
            "add the component mutual-tls whole, with the HTTPRoute aibrix-extproc-certificate",
        )  # fmt: skip
    proxies = list(setup.cluster.all("EnvoyProxy"))
    if proxies and not any(one.at("spec.backendTLS.clientCertificateRef.name") for one in proxies):
        yield Finding(
            Severity.ERROR, proxies[0].subject, "spec.backendTLS.clientCertificateRef",
            "the processor asks for client certificates, and the Envoys have none: every request is 503",
            "name the Secret of the Envoys' certificate, as the component mutual-tls does",
        )  # fmt: skip


def _left_behind(policy: Thing) -> Finding:
    return Finding(
        Severity.ERROR, policy.subject, "spec.targetRefs",
        "it makes the Envoys speak TLS with the processor, which speaks none: every request is 503",
        "delete it, which `kubectl apply` does not do for a component that was left out, or add mutual-tls whole",
    )  # fmt: skip


def _targets(policy: Thing, services: list[tuple[str, str]]) -> bool:
    return any((policy.namespace, str(at(ref, "name"))) in services for ref in policy.items("spec.targetRefs"))


def _note_keys(process: Process) -> Iterator[Finding]:
    metered = process.setting("metering", "enabled", "--metering")
    if metered is None or metered.lower() in _OFF:
        return
    if not process.setting("metering", "note_keys", "--note-keys"):
        yield Finding(
            Severity.WARNING, process.deployment.subject, f"{process.field}.env",
            "it counts tokens, and its replicas share no note keys: what Envoy reports to another replica than the one"
            " that placed the exchange is not counted",
            "give all replicas one file of keys by metering.note_keys, as the component metering does",
        )  # fmt: skip


CHECKS: Final = (guarded, unreachable)
