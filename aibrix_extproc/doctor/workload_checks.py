"""Our own processes: how they are deployed, and whether their settings fit the policies."""

import re
from collections.abc import Iterator
from typing import Final

from aibrix_extproc.core.placing import ATTEMPTS
from aibrix_extproc.doctor.finding import Finding, Severity
from aibrix_extproc.doctor.objects import Cluster, Thing, at, quantity
from aibrix_extproc.doctor.process import ENV, Process, process_of
from aibrix_extproc.doctor.setup import Setup

DRAIN_SECONDS: Final = 30.0  # settings' defaults
NOTICE_SECONDS: Final = 1.0
DEFAULT_SERVICE: Final = "LoadBalancer"  # Envoy Gateway's own
LOOPBACK: Final = re.compile(r"localhost|127\..*|::1")


def destinations(setup: Setup) -> int:
    """The number of addresses in the list of the deployed processors."""
    for deployment in setup.deployments():
        given = quantity(process_of(setup.cluster, deployment).setting("routing", "destinations", "--destinations"))
        if given:
            return given
    return ATTEMPTS


def deployed(setup: Setup) -> Iterator[Finding]:
    """There is a processor, more than one, and it may drain."""
    services = setup.processor_services()
    if not services and "Service" not in setup.cluster.unread:
        for policy, _, field in setup.processors():
            yield Finding(
                Severity.ERROR, policy.subject, f"{field}.backendRefs",
                "the Service that it names is not there: Envoy Gateway leaves the processor out, every request is 503",
                "apply the manifests' Service",
            )  # fmt: skip
    for deployment in setup.deployments():
        yield from of_deployment(setup.cluster, deployment)


def of_deployment(cluster: Cluster, deployment: Thing) -> Iterator[Finding]:
    """Findings about one Deployment of ours by itself."""
    process = process_of(cluster, deployment)
    yield from _replicas(cluster, deployment)
    yield from _draining(process)
    yield from _host(process)
    yield from _image(cluster, process)
    for place in process.unseen:
        yield Finding(
            Severity.NOTE, deployment.subject, process.field,
            f"{place} may have settings, and was not read: what is said of settings here may be wrong",
            "let doctor see it, or compare with what `aibrix-extproc config` says there",
        )  # fmt: skip


def _image(cluster: Cluster, process: Process) -> Iterator[Finding]:
    image = str(at(process.container, "image") or "")
    running = cluster.live and quantity(process.deployment.at("status.readyReplicas"))
    if image and "/" not in image and not running:
        yield Finding(
            Severity.NOTE, process.deployment.subject, f"{process.field}.image",
            f"{image} names no registry: it is found only where it was loaded into every node, else pods stay in"
            " ImagePullBackOff",
            "push it to a registry of yours, and name that in the kustomization by images",
        )  # fmt: skip


def _host(process: Process) -> Iterator[Finding]:
    host = process.setting("server", "host", "--host")
    deployment, field = process.deployment, f"{process.field}.env"
    fix = f"set {ENV}SERVER__HOST to 0.0.0.0, or to :: with IPv6"
    if host is None:
        if process.unseen:
            return  # another check reports it
        yield Finding(
            Severity.NOTE, deployment.subject, field,
            "nothing here says where it listens: on all addresses if its image is ours, else on 127.0.0.1", fix,
        )  # fmt: skip
    elif LOOPBACK.fullmatch(host):
        yield Finding(
            Severity.ERROR, deployment.subject, field,
            f"it listens on {host}, where no Envoy reaches it: every request is 503", fix,
        )  # fmt: skip


def _replicas(cluster: Cluster, deployment: Thing) -> Iterator[Finding]:
    scalers = [
        one for one in cluster.all("HorizontalPodAutoscaler")
        if one.namespace == deployment.namespace and one.at("spec.scaleTargetRef.name") == deployment.name
    ]  # fmt: skip
    wanted = deployment.at("spec.replicas")
    least = max([quantity(one.at("spec.minReplicas")) or 1 for one in scalers], default=quantity(wanted) or 1)
    if least < 2:
        yield Finding(
            Severity.WARNING, deployment.subject, "spec.replicas",
            "with one processor every restart of it is a second of 503", "run two or more",
        )  # fmt: skip
    ready = quantity(deployment.at("status.readyReplicas")) or 0
    if cluster.live and ready == 0:
        yield Finding(
            Severity.ERROR, deployment.subject, "status.readyReplicas", "no processor is ready: every request is 503",
            "see its pods' logs: they say what they wait for",
        )  # fmt: skip
    missing = quantity(deployment.at("status.unavailableReplicas")) or 0
    if cluster.live and ready and missing:
        yield Finding(
            Severity.WARNING, deployment.subject, "status.unavailableReplicas",
            f"{missing:g} more of its pods do not become ready: what was applied last is not in force everywhere",
            "wait for the rollout; if it stays so, `kubectl describe pods` says why: mostly a Secret is missing, or the"
            " image",
        )  # fmt: skip


def _draining(process: Process) -> Iterator[Finding]:
    deployment = process.deployment
    try:
        drain = float(process.setting("server", "drain_seconds", "--drain-seconds") or DRAIN_SECONDS)
        drain += float(
            process.setting("server", "drain_notice_seconds", "--server-drain-notice-seconds") or NOTICE_SECONDS
        )
    except ValueError:
        return  # the process says so itself, and does not start
    grace = quantity(deployment.at("spec.template.spec.terminationGracePeriodSeconds"))
    grace = 30 if grace is None else grace
    if grace <= drain:
        yield Finding(
            Severity.WARNING, deployment.subject, "spec.template.spec.terminationGracePeriodSeconds",
            f"it is killed after {grace} s although it drains for up to {drain:g} s: load counts of running exchanges"
            " are lost",
            "set more than server.drain_seconds and server.drain_notice_seconds together",
        )  # fmt: skip


def metering(setup: Setup) -> Iterator[Finding]:
    """Metering and the stream filter belong together."""
    scripted = any(one.items("spec.lua") for one in setup.on_gateway("EnvoyExtensionPolicy"))
    for deployment in setup.deployments():
        asked = process_of(setup.cluster, deployment).setting("metering", "enabled", "--metering")
        metered = asked is not None and asked.lower() not in ("false", "0", "no", "")
        if metered and not scripted:
            yield Finding(
                Severity.ERROR, deployment.subject, "spec.template.spec.containers[0].args",
                "it asks engines for the usage of every stream, and nothing hides it: clients get events that they did"
                " not ask for",
                "add the component metering, which brings the stream filter, or drop --metering",
            )  # fmt: skip
        if scripted and not metered:
            yield Finding(
                Severity.NOTE, deployment.subject, "spec.template.spec.containers[0].args",
                "the stream filter runs, but without --metering streams of clients that do not ask are not counted",
                "add --metering",
            )  # fmt: skip


def keyless(setup: Setup) -> Iterator[Finding]:
    """Findings about a gateway without keys: whoever reaches it may call it."""
    proxy = setup.proxy()
    kind = (None if proxy is None else proxy.at("spec.provider.kubernetes.envoyService.type")) or DEFAULT_SERVICE
    for deployment in setup.deployments():
        process = process_of(setup.cluster, deployment)
        has_keys = (
            process.setting("access", "api_keys", "--api-key") is not None
            or process.setting("access", "key_file", "--key-file") is not None
        )
        if process.is_picker or has_keys or process.unseen:
            continue
        inside = kind == "ClusterIP"
        yield Finding(
            Severity.NOTE if inside else Severity.WARNING, deployment.subject, process.field,
            "it asks for no keys: everyone who reaches the Gateway may use every model, and its Service "
            + ("is of type ClusterIP, so that is everyone in the cluster" if inside
               else f"is of type {kind}, which may be open to the world"),
            "add the component keys" + ("" if inside else ", or make envoyService.type of the EnvoyProxy ClusterIP"),
        )  # fmt: skip


CHECKS: Final = (deployed, metering, keyless)
