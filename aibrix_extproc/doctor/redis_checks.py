"""Limits over several processors: whether they share a Redis, and whether it and its password are there."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from aibrix_extproc.doctor.finding import Finding, Severity
from aibrix_extproc.doctor.objects import Thing, at, quantity
from aibrix_extproc.doctor.process import ENV, Process, mounted, process_of
from aibrix_extproc.doctor.setup import Setup

_COMPONENT: Final = "apply the component redis whole"


def shared_limits(setup: Setup) -> Iterator[Finding]:
    """Several processors share their limits, where a file of limits is set."""
    for deployment in setup.deployments():
        process = process_of(setup.cluster, deployment)
        if process.unseen or process.setting("redis", "url", "--redis") is not None:
            continue
        limited = process.setting("rate_limits", "file", "--limits")
        told = process.setting("rate_limits", "replicas", "--rate-limits-replicas")
        if limited and told is None and _several(setup, deployment):
            yield Finding(
                Severity.WARNING, deployment.subject, f"{process.field}.env",
                "there are several processors without a Redis, and each admits the whole limit",
                "add the component redis, or set rate_limits.replicas to their number",
            )  # fmt: skip


def redis_there(setup: Setup) -> Iterator[Finding]:
    """The Service of redis.url is there, and the password comes from a Secret that is mounted."""
    for deployment in setup.deployments():
        process = process_of(setup.cluster, deployment)
        url = process.setting("redis", "url", "--redis")
        if not url:
            continue
        yield from _service(setup, process, url)
        path = process.setting("redis", "password_file", "--redis-password-file")
        if path and not mounted(process, path):
            yield Finding(
                Severity.ERROR, deployment.subject, f"{process.field}.volumeMounts",
                f"nothing is mounted where redis.password_file is ({path}): the processor does not start",
                f"mount the Secret aibrix-extproc-redis there, or {_COMPONENT}",
            )  # fmt: skip


def _service(setup: Setup, process: Process, url: str) -> Iterator[Finding]:
    try:
        host, port = urlsplit(url).hostname or "", urlsplit(url).port or 6379
    except ValueError:
        return  # `serve` refuses it
    name, _, rest = host.partition(".")
    labels = rest.split(".") if rest else []
    if (
        not name
        or ":" in host
        or host == "localhost"
        or (labels and labels[1:2] != ["svc"])
        or "Service" in setup.cluster.unread
    ):
        return  # outside of the cluster, or a namespace that cannot be told from a domain
    namespace = labels[0] if labels else process.deployment.namespace
    if namespace != process.deployment.namespace:
        return
    service = setup.cluster.find("Service", namespace, name)
    if service is None or port not in {at(one, "port") for one in service.items("spec.ports")}:
        yield Finding(
            Severity.ERROR, process.deployment.subject, f"{process.field}.env",
            f"no Service {name} has port {port}: limits are those of each processor alone, or limited callers are 503",
            f"set {ENV}REDIS__URL to the Service of your Redis, or {_COMPONENT}",
        )  # fmt: skip


def _several(setup: Setup, deployment: Thing) -> bool:
    scaled = any(
        one.at("spec.scaleTargetRef.name") == deployment.name and one.namespace == deployment.namespace
        for one in setup.cluster.all("HorizontalPodAutoscaler")
    )
    return scaled or (quantity(deployment.at("spec.replicas")) or 1) > 1


CHECKS: Final = (shared_limits, redis_there)
