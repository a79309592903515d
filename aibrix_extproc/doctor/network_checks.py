"""Whether NetworkPolicies let the Gateway's Envoys reach the processor, as far as labels tell."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from aibrix_extproc.doctor.finding import Finding, Severity
from aibrix_extproc.doctor.objects import Thing, at, listed
from aibrix_extproc.doctor.setup import Setup

OWNING_NAME: Final = "gateway.envoyproxy.io/owning-gateway-name"
OWNING_NAMESPACE: Final = "gateway.envoyproxy.io/owning-gateway-namespace"


def envoys_may_pass(setup: Setup) -> Iterator[Finding]:
    """Some policy that closes the processor's pods opens their port to pods with this Gateway's labels."""
    for deployment in setup.deployments():
        closing = [one for one in setup.cluster.all("NetworkPolicy") if closes(one, deployment)]
        ports = _ports(setup, deployment)
        if ports and closing and not any(opens(setup.gateway, one, ports) for one in closing):
            named = sorted({label for one in closing for label in _owners(one)})
            yield Finding(
                Severity.ERROR, closing[0].subject, "spec.ingress",
                f"it keeps the Envoys of {setup.gateway.subject} from the processor: every request is 503" + (
                    f". The pods that it lets in belong to {', '.join(named)}" if named else ""),
                f"let in pods with {OWNING_NAME}: {setup.gateway.name} and {OWNING_NAMESPACE}:"
                f" {setup.gateway.namespace}",
            )  # fmt: skip


def closes(policy: Thing, deployment: Thing) -> bool:
    """Whether a NetworkPolicy says who may reach a Deployment's pods."""
    kinds = policy.items("spec.policyTypes")
    return (not kinds or "Ingress" in kinds) and selected_by(policy, deployment)


def selected_by(policy: Thing, deployment: Thing) -> bool:
    """Whether a NetworkPolicy is about a Deployment's pods."""
    labels = deployment.mapping("spec.template.metadata.labels")
    return policy.namespace == deployment.namespace and _selects(policy.at("spec.podSelector"), labels)


def _selects(selector: Any, labels: Mapping[str, Any]) -> bool:
    wanted = at(selector, "matchLabels") or {}
    return isinstance(wanted, Mapping) and wanted.items() <= labels.items() and not at(selector, "matchExpressions")


def _ports(setup: Setup, deployment: Thing) -> set[str]:
    """Name and number of the port that the extension policy's Service leads to."""
    wanted = {
        str(at(ref, "port")) for _, entry, _ in setup.processors() for ref in listed(entry, "backendRefs")
    }  # fmt: skip
    found = {
        str(at(port, "targetPort") or at(port, "port"))
        for service in setup.processor_services()
        for port in service.items("spec.ports")
        if str(at(port, "port")) in wanted
    }
    for container in deployment.items("spec.template.spec.containers"):
        for port in listed(container, "ports"):
            both = {str(at(port, "name")), str(at(port, "containerPort"))}
            found |= both if both & found else set()
    return found


def opens(gateway: Thing, policy: Thing, ports: set[str]) -> bool:
    """Whether a NetworkPolicy lets this Gateway's Envoys in at one of these ports, by number or name."""
    for rule in policy.items("spec.ingress"):
        given = listed(rule, "ports")
        if given and not any(at(one, "port") is None or str(at(one, "port")) in ports for one in given):
            continue
        peers = listed(rule, "from")
        if not peers or any(_may_be_ours(gateway, one) for one in peers):
            return True
    return False


def _may_be_ours(gateway: Thing, peer: Any) -> bool:
    """Whether nothing that it asks of pods contradicts what Envoy Gateway writes on this Gateway's Envoys."""
    labels = at(peer, "podSelector.matchLabels")
    if not isinstance(labels, Mapping):
        return True
    ours = {OWNING_NAME: gateway.name, OWNING_NAMESPACE: gateway.namespace}
    return all(labels.get(name, value) == value for name, value in ours.items())


def _owners(policy: Thing) -> Iterator[str]:
    for rule in policy.items("spec.ingress"):
        for peer in listed(rule, "from"):
            labels = at(peer, "podSelector.matchLabels")
            if isinstance(labels, Mapping) and OWNING_NAMESPACE in labels:
                yield f"Gateway {labels[OWNING_NAMESPACE]}/{labels.get(OWNING_NAME, '*')}"


CHECKS: Final = (envoys_may_pass,)
