"""Checks of what metadata services keep and share: state, secrets, and the way of their workers to the Gateway."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import SplitResult, urlsplit

from aibrix_extproc.doctor.finding import Finding, Severity
from aibrix_extproc.doctor.network_checks import selected_by
from aibrix_extproc.doctor.objects import Thing, at, listed, quantity
from aibrix_extproc.doctor.process import ENV, Process, mounted, process_of
from aibrix_extproc.doctor.setup import Setup
from aibrix_extproc.doctor.workload_checks import LOOPBACK

_PORTS: Final = {"http": 80, "https": 443}
_LASTING: Final = ("persistentVolumeClaim", "ephemeral", "hostPath", "nfs", "csi")
_KEYS_FLAG: Final = "--note-keys"
_UNBELIEVED: Final = "every request for files and batches is 401"


def kept(setup: Setup) -> Iterator[Finding]:
    """State is somewhere where it stays, and where every process finds it."""
    for deployment in setup.metadata_deployments():
        process = process_of(setup.cluster, deployment)
        files = dict(_in_files(process))
        lost = [what for what, path in files.items() if not _lasts(process, path)]
        if lost:
            yield Finding(
                Severity.ERROR, deployment.subject, f"{process.field}.volumeMounts",
                f"{' and '.join(lost)} of the pod alone: files and batches are lost with every restart",
                "mount a PersistentVolumeClaim and name its folder by metadata.data_dir, or use PostgreSQL and object"
                " storage (component metadata)",
            )  # fmt: skip
        if files:
            yield from _alone(setup, deployment, " and ".join(files))


def _in_files(process: Process) -> Iterator[tuple[str, str]]:
    """Which parts of the state are files, each with its path."""
    folder = process.setting("metadata", "data_dir", "--data") or ""
    for what, field, scheme in (("the SQLite database is", "database", "sqlite"), ("blobs are", "blobs", "file")):
        value = process.setting("metadata", field, f"--{field}")
        if value is None and not process.unseen:
            yield what, folder
        elif value is not None and value.startswith(f"{scheme}:"):
            yield what, value.partition("://")[2].replace("//", "/")


def _lasts(process: Process, path: str) -> bool:
    return any(name in mounted(process, path) for name in _LASTING)


def _alone(setup: Setup, deployment: Thing, where: str) -> Iterator[Finding]:
    replicas = quantity(deployment.at("spec.replicas"))
    number = 1 if replicas is None else replicas
    scaled = any(
        one.at("spec.scaleTargetRef.name") == deployment.name and one.namespace == deployment.namespace
        for one in setup.cluster.all("HorizontalPodAutoscaler")
    )
    if number > 1 or scaled or len(setup.metadata_deployments()) > 1:
        yield Finding(
            Severity.ERROR, deployment.subject, "spec.replicas",
            f"several processes, and {where} of one pod alone: each has files that the others do not know",
            "run one, or use PostgreSQL and object storage (component metadata)",
        )  # fmt: skip
    elif deployment.at("spec.strategy.type") != "Recreate":
        yield Finding(
            Severity.WARNING, deployment.subject, "spec.strategy.type",
            "a rollout starts the new process while the old one holds the volume: it waits for ever where the volume is"
            " of one node, else two work on one database",
            "set strategy: {type: Recreate}",
        )  # fmt: skip


def shared_keys(setup: Setup) -> Iterator[Finding]:
    """Processors and metadata services have the same keys, by which each verifies the other."""
    services = [process_of(setup.cluster, one) for one in setup.metadata_deployments()]
    gateways = [process_of(setup.cluster, one) for one in setup.deployments()] if services else []
    for process in (*gateways, *services):
        if process.setting("metering", "note_keys", _KEYS_FLAG) is None and not process.unseen:
            yield Finding(
                Severity.ERROR, process.deployment.subject, f"{process.field}.env",
                "it has no keys that it shares with the others: "
                + ("it does not start" if process in services else _UNBELIEVED),
                f"name their file by {ENV}METERING__NOTE_KEYS, and mount the Secret aibrix-extproc-note-keys there",
            )  # fmt: skip
    sources = {source: process for process in (*services, *gateways) if (source := _source(process)) is not None}
    if len(sources) > 1:
        first, *others = sources
        other = sources[others[-1]]
        yield Finding(
            Severity.ERROR, other.deployment.subject, f"{other.field}.volumeMounts",
            f"its note keys are {' '.join(others[-1])}, those of {sources[first].deployment.subject} are"
            f" {' '.join(first)}: what one signs the other refuses, and {_UNBELIEVED}",
            "mount one Secret in all of them, as the components metadata and metadata-volume do",
        )  # fmt: skip


def _source(process: Process) -> tuple[str, str, str] | None:
    """The Secret and the key in it that the file of note keys comes from; None where that cannot be seen."""
    path = process.setting("metering", "note_keys", _KEYS_FLAG)
    volume = mounted(process, path) if path else {}
    name = at(volume, "secret.secretName")
    if path is None or name is None:
        return None
    key = path.rpartition("/")[2]
    items = {str(at(one, "path")): str(at(one, "key")) for one in listed(volume, "secret.items")}
    return "Secret", str(name), items.get(key, key)


def gateway_url(setup: Setup) -> Iterator[Finding]:
    """Workers send lines of batches through the Gateway's Envoys."""
    for deployment in setup.metadata_deployments():
        process = process_of(setup.cluster, deployment)
        if process.setting("metadata", "role", "--role") == "api":
            continue
        yield from _egress(setup, deployment)
        given = process.setting("metadata", "gateway_url", "--gateway-url")
        if given == "" or (given is None and process.unseen):
            continue  # its source is not read
        wrong = _wrong(setup, given)
        if wrong:
            yield Finding(
                Severity.ERROR, deployment.subject, f"{process.field}.env",
                f"its gateway_url {given or ''} {wrong}: no line of a batch is answered".replace("  ", " "),
                f"set {ENV}METADATA__GATEWAY_URL to the Service of the Gateway's Envoys, such as"
                f" http://aibrix-extproc.envoy-gateway-system.svc, or to the name in its certificate with https",
            )  # fmt: skip


def _wrong(setup: Setup, given: str | None) -> str:
    """The error in the URL of a Gateway; empty if none can be seen."""
    if given is None:
        return "is not set, so it is the pod itself"
    try:
        url = urlsplit(given)
        port = url.port or _PORTS.get(url.scheme)
    except ValueError:
        return "is none"
    if url.scheme not in _PORTS or not url.hostname:
        return "is none"
    if LOOPBACK.fullmatch(url.hostname):
        return "is the pod itself"
    if not _is_inside(url):
        return ""
    name, _, rest = url.hostname.partition(".")
    service = setup.cluster.find("Service", rest.partition(".")[0] or setup.gateway.namespace, name)
    if service is not None and service.namespace and not _is_envoys(service):
        return f"is {service.subject}, which is not the Envoys'"
    wanted = setup.proxy_service()
    if wanted and name != wanted:
        return f"is not the Envoys' Service, which is called {wanted}"
    listeners = {(str(at(one, "protocol")).lower(), at(one, "port")) for one in setup.gateway.items("spec.listeners")}
    if listeners and (url.scheme, port) not in listeners:
        return f"is no listener of the Gateway, which has {', '.join(f'{kind} {at_}' for kind, at_ in listeners)}"
    return "has no name that a certificate of clients' names has" if url.scheme == "https" else ""


def _is_inside(url: SplitResult) -> bool:
    """Whether it is a name that only the cluster knows: SERVICE, SERVICE.NAMESPACE, or one with .svc."""
    labels = (url.hostname or "").split(".")
    return not all(label.isdigit() for label in labels) and (len(labels) < 3 or labels[2] == "svc")


def _is_envoys(service: Thing) -> bool:
    return "gateway.envoyproxy.io/owning-gateway-name" in service.mapping("spec.selector")


def _egress(setup: Setup, deployment: Thing) -> Iterator[Finding]:
    closing = [
        one for one in setup.cluster.all("NetworkPolicy")
        if "Egress" in one.items("spec.policyTypes") and selected_by(one, deployment)
    ]  # fmt: skip
    if closing and not any(one.items("spec.egress") for one in closing):
        yield Finding(
            Severity.ERROR, closing[0].subject, "spec.egress",
            "it lets nothing out of the metadata service: neither the Gateway nor database and storage are reached",
            "allow the Gateway's Envoys, the database, the storage and DNS, or drop Egress from policyTypes",
        )  # fmt: skip


CHECKS: Final = (kept, shared_keys, gateway_url)
