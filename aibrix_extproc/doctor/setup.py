"""Which objects make up an installation: the Gateway that our processor stands behind, its routes and its policies."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aibrix_extproc.core.openai.contract.headers import DESTINATION, SIGNED_CALLER
from aibrix_extproc.doctor.objects import Cluster, Thing, at, listed
from aibrix_extproc.doctor.process import serves_metadata


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of an HTTPRoute, with its path inside of the object."""

    route: Thing
    index: int
    content: Mapping[str, Any]

    @property
    def field(self) -> str:
        """The place of the rule in its route."""
        return f"spec.rules[{self.index}]"

    @property
    def to_backends(self) -> bool:
        """Whether it leads anywhere but to an answer of Envoy's."""
        return bool(self.content.get("backendRefs"))

    @property
    def catches_all(self) -> bool:
        """Whether a match of it takes every path, whatever else the request has."""
        return any(
            set(match) <= {"path"} and at(match, "path.value") in (None, "/") and at(match, "path.type") != "Exact"
            for match in listed(self.content, "matches") or [{}]
            if isinstance(match, Mapping)
        )

    @property
    def prefixes(self) -> frozenset[str]:
        """Paths below which a match of it takes every request, whatever else the request has."""
        return frozenset(
            str(at(match, "path.value") or "/").rstrip("/")
            for match in listed(self.content, "matches") or [{}]
            if isinstance(match, Mapping) and set(match) <= {"path"} and at(match, "path.type") != "RegularExpression"
        )

    @property
    def placed(self) -> bool:
        """Whether every match of it needs the header that names an engine, which only our processor sets."""
        return self._needs(DESTINATION)

    @property
    def signed(self) -> bool:
        """Whether every match of it needs the header that names a caller, which only our processor sets."""
        return self._needs(SIGNED_CALLER)

    def _needs(self, name: str) -> bool:
        matches = listed(self.content, "matches") or [{}]
        return all(
            any(str(at(header, "name")).lower() == name for header in listed(match, "headers")) for match in matches
        )


@dataclass(frozen=True, slots=True)
class Setup:
    """One Gateway and what belongs to it."""

    cluster: Cluster
    gateway: Thing
    routes: tuple[Thing, ...]
    max_body_bytes: int

    def rules(self) -> Iterator[Rule]:
        """All rules of all routes, but those that lead to the processor or to the metadata service alone."""
        return (
            rule
            for rule in self._all_rules()
            if not rule.to_backends or not (self._to_processor(rule) == {True} or self.to_metadata(rule))
        )

    def metadata_rules(self) -> Iterator[Rule]:
        """Rules that lead to the metadata service."""
        return (rule for rule in self._all_rules() if rule.to_backends and self.to_metadata(rule))

    def to_metadata(self, rule: Rule) -> bool:
        """Whether it is for requests that the processor has signed, or its Service selects the metadata service."""
        return rule.signed or any(map(serves_metadata, self.backends_of(rule)))

    def backends_of(self, rule: Rule) -> list[Thing]:
        """The Deployments that a rule leads to."""
        found: list[Thing] = []
        for ref in listed(rule.content, "backendRefs"):
            namespace = at(ref, "namespace") or rule.route.namespace
            service = self.cluster.find("Service", namespace, str(at(ref, "name")))
            found += self._selected(service) if service is not None else []
        return found

    def processor_rules(self) -> Iterator[Rule]:
        """Rules that lead to the processor as if it were an engine."""
        return (rule for rule in self._all_rules() if True in self._to_processor(rule))

    def _to_processor(self, rule: Rule) -> set[bool]:
        """Whether its backends are Services of the processor."""
        services = [
            (at(ref, "namespace") or policy.namespace, at(ref, "name"))
            for policy, entry, _ in self.processors()
            for ref in listed(entry, "backendRefs")
        ]  # fmt: skip
        refs = listed(rule.content, "backendRefs")
        return {(at(ref, "namespace") or rule.route.namespace, at(ref, "name")) in services for ref in refs}

    def _all_rules(self) -> Iterator[Rule]:
        for route in self.routes:
            for index, content in enumerate(route.items("spec.rules")):
                if isinstance(content, Mapping):
                    yield Rule(route, index, content)

    def on_gateway(self, kind: str) -> list[Thing]:
        """The policies of a kind that target the Gateway, whole or one listener of it."""
        return [one for one in self.cluster.all(kind) if self._targets(one, self.gateway)]

    def on_routes(self, kind: str) -> list[tuple[Thing, Thing]]:
        """The policies of a kind that target one of the routes, each with that route."""
        return [(one, route) for one in self.cluster.all(kind) for route in self.routes if self._targets(one, route)]

    def in_force(self, kind: str, route: Thing) -> Thing | None:
        """The policy of a kind that rules a route: its own, else the Gateway's."""
        own = [policy for policy, target in self.on_routes(kind) if target is route]
        return next(iter(own or self.on_gateway(kind)), None)

    def takes_heads_alone(self, policy: Thing, route: Thing) -> bool:
        """Whether it differs from the Gateway's policy in sending our processor no bodies, on a route to no backend.

        Such a route is for requests that the processor hands over to the metadata service.
        """
        leads_nowhere = not any(at(rule, "backendRefs") for rule in route.items("spec.rules"))
        entries = [_without_request_body(entry) for entry in policy.items("spec.extProc")]
        others = [_without_request_body(entry) for _, entry, _ in self.processors()]
        return (
            leads_nowhere
            and entries == others != []
            and all(
                at(entry, "processingMode.request") is not None and at(entry, "processingMode.request.body") is None
                for entry in policy.items("spec.extProc")
            )
        )

    def _targets(self, policy: Thing, target: Thing) -> bool:
        if policy.namespace != target.namespace:
            return False  # policies reach objects of their own namespace only
        refs = [*policy.items("spec.targetRefs"), policy.at("spec.targetRef")]
        named = any(at(ref, "kind") == target.kind and at(ref, "name") == target.name for ref in refs)
        return named or any(_selects(one, target) for one in policy.items("spec.targetSelectors"))

    def processors(self) -> list[tuple[Thing, Mapping[str, Any], str]]:
        """Each ext_proc entry of the Gateway's extension policies, with its path."""
        return [
            (policy, entry, f"spec.extProc[{index}]")
            for policy in self.on_gateway("EnvoyExtensionPolicy")
            for index, entry in enumerate(policy.items("spec.extProc"))
            if isinstance(entry, Mapping)
        ]

    def processor_services(self) -> list[Thing]:
        """The Services behind the ext_proc entries."""
        found = []
        for policy, entry, _ in self.processors():
            for ref in listed(entry, "backendRefs"):
                service = self.cluster.find("Service", at(ref, "namespace") or policy.namespace, str(at(ref, "name")))
                if service is not None and service not in found:
                    found.append(service)
        return found

    def proxy(self) -> Thing | None:
        """The EnvoyProxy of the Gateway, or of its class."""
        own = self.gateway.at("spec.infrastructure.parametersRef")
        if own is not None:
            return self.cluster.find("EnvoyProxy", self.gateway.namespace, str(at(own, "name")))
        parent = self.cluster.find("GatewayClass", "", str(self.gateway.at("spec.gatewayClassName")))
        ref = parent.at("spec.parametersRef") if parent is not None else None
        if ref is None:
            return None
        return self.cluster.find("EnvoyProxy", str(at(ref, "namespace") or ""), str(at(ref, "name")))

    def proxy_service(self) -> str:
        """The name of the Service of the Gateway's Envoys; empty where Envoy Gateway makes one up."""
        proxy = self.proxy()
        name = None if proxy is None else proxy.at("spec.provider.kubernetes.envoyService.name")
        return name if isinstance(name, str) else ""

    def deployments(self) -> list[Thing]:
        """The Deployments whose pods those Services select."""
        return [one for service in self.processor_services() for one in self._selected(service)]

    def metadata_deployments(self) -> list[Thing]:
        """The Deployments of the metadata service, of every role, beside the Gateway or behind its routes."""
        beside = (one for one in self.cluster.all("Deployment") if one.namespace == self.gateway.namespace)
        behind = (one for rule in self.metadata_rules() for one in self.backends_of(rule))
        return list(dict.fromkeys(one for one in (*beside, *behind) if serves_metadata(one)))

    def _selected(self, service: Thing) -> Iterator[Thing]:
        wanted = service.mapping("spec.selector")
        for one in self.cluster.all("Deployment"):
            labels = one.mapping("spec.template.metadata.labels")
            if one.namespace == service.namespace and wanted and wanted.items() <= labels.items():
                yield one


def _without_request_body(entry: Any) -> Any:
    mode = at(entry, "processingMode")
    return {**entry, "processingMode": {**mode, "request": None}} if isinstance(mode, Mapping) else entry


def _selects(selector: Any, target: Thing) -> bool:
    if at(selector, "kind") != target.kind:
        return False
    labels = target.mapping("metadata.labels")
    wanted = at(selector, "matchLabels") or {}
    return isinstance(wanted, Mapping) and wanted.items() <= labels.items() and not at(selector, "matchExpressions")


def gateways_of(cluster: Cluster) -> list[Thing]:
    """The Gateways that an extension policy with an external processor targets."""
    found = []
    for gateway in cluster.all("Gateway"):
        if Setup(cluster, gateway, (), 0).processors():
            found.append(gateway)
    return found


def setup_of(cluster: Cluster, gateway: Thing, max_body_bytes: int) -> Setup:
    """The objects that belong to a Gateway."""
    routes = tuple(one for one in cluster.all("HTTPRoute") if _attached(one, gateway))
    return Setup(cluster, gateway, routes, max_body_bytes)


def _attached(route: Thing, gateway: Thing) -> bool:
    return any(
        at(ref, "name") == gateway.name
        and (at(ref, "namespace") or route.namespace) == gateway.namespace
        and at(ref, "kind") in (None, "Gateway")
        for ref in route.items("spec.parentRefs")
    )
