"""All checks in order, each finding with the name of the check that made it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

from aibrix_extproc.doctor import (
    gateway_checks,
    metadata_checks,
    metadata_state_checks,
    network_checks,
    policy_checks,
    port_checks,
    redis_checks,
    route_checks,
    workload_checks,
)
from aibrix_extproc.doctor.finding import Finding, Severity
from aibrix_extproc.doctor.objects import Cluster, quantity
from aibrix_extproc.doctor.process import process_of, runs_us
from aibrix_extproc.doctor.setup import Setup, gateways_of, setup_of

OF_A_GATEWAY: Final = ("Gateway", "HTTPRoute", "EnvoyExtensionPolicy")
Check = Callable[[Setup], Iterator[Finding]]
CHECKS: Final[tuple[Check, ...]] = (
    *gateway_checks.CHECKS, *route_checks.CHECKS, *policy_checks.CHECKS, *workload_checks.CHECKS,
    *network_checks.CHECKS, *port_checks.CHECKS, *metadata_checks.CHECKS, *metadata_state_checks.CHECKS,
    *redis_checks.CHECKS,
)  # fmt: skip


def diagnose(cluster: Cluster, max_body_bytes: int) -> list[Finding]:
    """Findings about each Gateway that has an external processor; the size holds where none is deployed."""
    gateways = gateways_of(cluster)
    found: list[Finding] = []
    if not gateways:
        found += named("gateway", _without_gateway(cluster))
        for deployment in filter(runs_us, cluster.all("Deployment")):
            found += named("deployed", workload_checks.of_deployment(cluster, deployment))
            found += named("guarded", port_checks.of_port(cluster, process_of(cluster, deployment)))
    for gateway in gateways:
        setup = setup_of(cluster, gateway, max_body_bytes)
        setup = replace(setup, max_body_bytes=_taken(setup, max_body_bytes))
        for check in CHECKS:
            found += named(check.__name__, check(setup))
    for kind, why in cluster.unread.items():
        notice = f"objects of this kind could not be read: {why}"
        found.append(Finding(Severity.NOTE, kind, "", notice, "allow get and list on them", "read"))
    return list(dict.fromkeys(found))


def _without_gateway(cluster: Cluster) -> Iterator[Finding]:
    """An error, unless what there is needs no Gateway of its own: a picker, or manifests of engines alone."""
    pickers = [one for one in cluster.all("Deployment") if process_of(cluster, one).is_picker]
    for one in pickers:
        yield Finding(
            Severity.NOTE, one.subject, "",
            "it is an endpoint picker: the gateway that asks it, and the route to its InferencePool, are not looked at",
            "see the status of your HTTPRoute and InferencePool",
        )  # fmt: skip
    if pickers:
        return
    ours = any(map(runs_us, cluster.all("Deployment")))
    if not cluster.live and not ours and not any(one.kind in OF_A_GATEWAY for one in cluster.things):
        yield Finding(
            Severity.NOTE, "Gateway", "", "these manifests have none, and nothing of ours: there is little to look at",
            "give them together with the gateway's, or look at a cluster",
        )  # fmt: skip
        return
    if cluster.live and not ours and not any(one.kind in OF_A_GATEWAY for one in cluster.things):
        yield Finding(
            Severity.ERROR, "Gateway", "",
            "nothing of ours is installed where doctor looked: no Gateway, no route, no policy, no processor"
            + (", or it may not be read" if cluster.unread else ""),
            "install it, as by `kubectl apply -k manifests/overlays/try`, or name its namespace by --gateway-namespace",
        )  # fmt: skip
        return
    yield Finding(
        Severity.ERROR, "EnvoyExtensionPolicy", "spec.targetRefs",
        "no extension policy with an external processor targets a Gateway that was read: nothing of ours is in the"
        " path of any request",
        "apply the manifests, or let doctor read the namespace of your Gateway",
    )  # fmt: skip


def _taken(setup: Setup, default: int) -> int:
    """The largest body that the deployed processors take."""
    for deployment in setup.deployments():
        process = process_of(setup.cluster, deployment)
        given = quantity(process.setting("limits", "max_body_bytes", "--max-body-bytes"))
        if given is not None:
            return given
    return default


def named(check: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Findings that say who found them."""
    return (replace(one, check=check) for one in findings)
