"""Whether the processor's service account may do what its settings need."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from aibrix_extproc.doctor.finding import Finding, Severity

READ: Final = ("get", "list", "watch")


@dataclass(frozen=True, slots=True)
class Permission:
    """One verb on one kind in one namespace (empty: all), or on one object of it."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str = ""


def needed(
    namespaces: tuple[str, ...], *, own: str, pool: bool, publishes: str | None, lease: str
) -> tuple[Permission, ...]:
    """The permissions that a processor needs: to read engines, and to publish their addresses in its own namespace.

    A Role may allow only the Lease and the Service that the settings name, so they are asked for by name.
    """
    kinds = [("", "pods"), ("model.aibrix.ai", "modeladapters")]
    if pool:
        kinds.append(("inference.networking.k8s.io", "inferencepools"))
    wanted = [Permission(verb, group, name, where) for where in namespaces for group, name in kinds for verb in READ]
    if publishes:
        for verb in ("get", "list", "watch", "create", "update", "delete"):
            wanted.append(Permission(verb, "discovery.k8s.io", "endpointslices", own))
        wanted.append(Permission("create", "coordination.k8s.io", "leases", own))  # which no Role allows by name
        for verb in ("get", "update"):
            wanted.append(Permission(verb, "coordination.k8s.io", "leases", own, lease))
        wanted.append(Permission("get", "", "services", own, publishes))
    return tuple(wanted)


def denied(account: str, allowed: Mapping[Permission, bool]) -> Iterator[Finding]:
    """One finding for each kind of which a verb is missing."""
    missing: dict[tuple[str, str, str], list[str]] = {}
    for one, may in allowed.items():
        if not may:
            missing.setdefault((one.group, one.resource, one.namespace), []).append(one.verb)
    for (group, resource, namespace), verbs in missing.items():
        optional = resource == "modeladapters"
        where = f"in the namespace {namespace}" if namespace else "by a ClusterRole"
        yield Finding(
            Severity.WARNING if optional else Severity.ERROR, account, f"{resource}.{group}".rstrip("."),
            f"it may not {', '.join(verbs)} {where}: " + (
                "LoRA adapters of ModelAdapters are not served" if optional
                else "engines are not found" if resource in ("pods", "inferencepools")
                else "Envoy does not learn of engines: every request becomes 503"),
            f'allow it: {{apiGroups: ["{group}"], resources: ["{resource}"], verbs: {verbs}}}'.replace("'", '"'),
        )  # fmt: skip
