"""Our own processes: how they are deployed, and whether their settings fit the policies."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from aibrix_extproc.core.doctor.finding import Finding, Severity
from aibrix_extproc.core.doctor.objects import Thing, at, listed, quantity
from aibrix_extproc.core.doctor.setup import Setup
from aibrix_extproc.core.fleet.placement import ATTEMPTS

ENV: Final = "AIBRIX_EXTPROC_"
DRAIN_SECONDS: Final = 30.0  # settings' defaults
NOTICE_SECONDS: Final = 1.0
_LOOPBACK: Final = re.compile(r"localhost|127\..*|::1")


def container_of(deployment: Thing) -> Mapping[str, Any]:
    """The container that runs `serve` or `picker`: the first one that has our arguments, else the first."""
    containers = [one for one in deployment.items("spec.template.spec.containers") if isinstance(one, Mapping)]
    for one in containers:
        if {"serve", "picker"} & {str(word) for word in (*listed(one, "command"), *listed(one, "args"))}:
            return one
    return containers[0] if containers else {}


def _by_flag(container: Mapping[str, Any], flag: str) -> list[str]:
    """Each value that the arguments give a flag; one without a value is switched on."""
    words = [str(word) for word in (*listed(container, "command"), *listed(container, "args"))]
    found = []
    for index, word in enumerate(words):
        name, given, value = word.partition("=")
        if name == flag:
            following = words[index + 1] if index + 1 < len(words) else ""
            found.append(value if given else following if following and not following.startswith("--") else "true")
    return found


def setting(container: Mapping[str, Any], group: str, field: str, flag: str) -> str | None:
    """What a container's flags or environment say of a setting, lists with commas; None if they say nothing."""
    by_flag = _by_flag(container, flag)
    if by_flag:
        return ",".join(by_flag)
    for one in listed(container, "env"):
        if at(one, "name") == f"{ENV}{group}__{field}".upper():
            return str(at(one, "value") or "")
    return None


def destinations(setup: Setup) -> int:
    """How many addresses the list of the deployed processors has."""
    for deployment in setup.deployments():
        given = quantity(setting(container_of(deployment), "routing", "destinations", "--destinations"))
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
        yield from _replicas(setup, deployment)
        yield from _draining(deployment)
        yield from _host(deployment)


def _host(deployment: Thing) -> Iterator[Finding]:
    host = setting(container_of(deployment), "server", "host", "--host")
    field, fix = "spec.template.spec.containers[0].env", f"set {ENV}SERVER__HOST to 0.0.0.0"
    if host is None:
        yield Finding(
            Severity.NOTE, deployment.subject, field,
            "nothing here says where it listens: on all addresses if its image is ours, else on 127.0.0.1", fix,
        )  # fmt: skip
    elif _LOOPBACK.fullmatch(host):
        yield Finding(
            Severity.ERROR, deployment.subject, field,
            f"it listens on {host}, where no Envoy reaches it: every request is 503", fix,
        )  # fmt: skip


def _replicas(setup: Setup, deployment: Thing) -> Iterator[Finding]:
    scalers = [
        one for one in setup.cluster.all("HorizontalPodAutoscaler")
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
    if setup.cluster.live and ready == 0:
        yield Finding(
            Severity.ERROR, deployment.subject, "status.readyReplicas", "no processor is ready: every request is 503",
            "see its pods' logs: they say what they wait for",
        )  # fmt: skip


def _draining(deployment: Thing) -> Iterator[Finding]:
    container = container_of(deployment)
    try:
        drain = float(setting(container, "server", "drain_seconds", "--drain-seconds") or DRAIN_SECONDS)
        drain += float(
            setting(container, "server", "drain_notice_seconds", "--server-drain-notice-seconds") or NOTICE_SECONDS
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
        asked = setting(container_of(deployment), "metering", "enabled", "--metering")
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


CHECKS: Final = (deployed, metering)
