"""The fail-closed routes: engines are reached with our header only, everything else gets the JSON 503."""

from collections.abc import Iterator
from typing import Any, Final

from aibrix_extproc.core.openai.contract.headers import DESTINATION
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Action
from aibrix_extproc.doctor.finding import Finding, Severity
from aibrix_extproc.doctor.objects import Thing, at, listed, seconds
from aibrix_extproc.doctor.setup import Rule, Setup

MANAGER: Final = "aibrix-extproc"
_PLACED: Final = tuple(row for row in OPERATIONS if row.action is not Action.METADATA)


def placed_rule(setup: Setup) -> Iterator[Finding]:
    """There is a way to engines, and only for requests that were placed."""
    if not any(rule.to_backends and rule.placed for rule in setup.rules()):
        yield Finding(
            Severity.ERROR, setup.gateway.subject, "",
            f"no HTTPRoute of it has a rule for requests with {DESTINATION}: no request reaches an engine",
            "apply the manifests' HTTPRoute: a rule that matches this header by the regular expression .+",
        )  # fmt: skip
    for rule in setup.rules():
        if rule.to_backends and not rule.placed:
            yield Finding(
                Severity.ERROR, rule.route.subject, f"{rule.field}.matches",
                "it leads to backends without our header: while the processor is away, requests pass without keys,"
                " limits and placement",
                f"match the header {DESTINATION} by the regular expression .+, or move the rule to another Gateway",
            )  # fmt: skip


def catch_all(setup: Setup) -> Iterator[Finding]:
    """Findings about the rule that answers what was not placed with OpenAI's JSON."""
    for rule in setup.rules():
        found = _direct_response(setup, rule)
        if found is None or rule.placed or not rule.catches_all:
            continue
        filter_, thing = found
        if at(filter_, "statusCode") != 503 or at(filter_, "contentType") != "application/json":
            yield Finding(
                Severity.WARNING, thing.subject, "spec.directResponse",
                "SDKs cannot read what they get while the processor is away",
                "answer 503 with contentType application/json and OpenAI's error object",
            )  # fmt: skip
        return
    yield Finding(
        Severity.ERROR, setup.gateway.subject, "",
        "no rule catches what was not placed: while the processor is away clients get an empty 404, and requests"
        " without a route never reach the processor",
        "add a rule without the header that answers by an HTTPRouteFilter with directResponse",
    )  # fmt: skip


def shadowed(setup: Setup) -> Iterator[Finding]:
    """No longer path of another rule takes what was placed: the longest one wins before any header counts."""
    placed = {
        str(at(match, "path.value") or "/").rstrip("/")
        for rule in setup.rules()
        if rule.to_backends and rule.placed
        for match in listed(rule.content, "matches")
    }
    for rule in setup.rules():
        if rule.to_backends or not placed:
            continue  # `placed_rule` tells of both
        for prefix in sorted(rule.prefixes - placed):
            if any(row.path == prefix or row.path.startswith(f"{prefix}/") for row in _PLACED):
                yield Finding(
                    Severity.ERROR, rule.route.subject, f"{rule.field}.matches",
                    f"it takes every request below {prefix or '/'}, placed or not: its path is longer than those of the"
                    " rule for placed requests",
                    f"give that rule a second match with the path {prefix or '/'} and the header {DESTINATION}",
                )  # fmt: skip


def _direct_response(setup: Setup, rule: Rule) -> tuple[Any, Thing] | None:
    for one in listed(rule.content, "filters"):
        if at(one, "extensionRef.kind") == "HTTPRouteFilter":
            thing = setup.cluster.find("HTTPRouteFilter", rule.route.namespace, str(at(one, "extensionRef.name")))
            if thing is not None and thing.at("spec.directResponse") is not None:
                return thing.at("spec.directResponse"), thing
    return None


def header_survives(setup: Setup) -> Iterator[Finding]:
    """No route filter touches the destination: it runs before Envoy picks the endpoint."""
    for rule in setup.rules():
        for index, one in enumerate(listed(rule.content, "filters")):
            set_ = (at(each, "name") for each in listed(one, "requestHeaderModifier.set"))
            changed = [*listed(one, "requestHeaderModifier.remove"), *set_]
            if any(str(name).lower() == DESTINATION for name in changed):
                yield Finding(
                    Severity.ERROR, rule.route.subject, f"{rule.field}.filters[{index}].requestHeaderModifier",
                    "it strips our choice before Envoy reads it: any engine gets the request, or none",
                    "remove it; client copies are removed by the ClientTrafficPolicy",
                )  # fmt: skip


def timeouts(setup: Setup) -> Iterator[Finding]:
    """Generations and uploads take as long as they take."""
    for rule in (*setup.rules(), *setup.metadata_rules()):
        if not rule.to_backends:
            continue
        policy = setup.in_force("BackendTrafficPolicy", rule.route)
        by_policy = policy.at("spec.timeout.http.requestTimeout") if policy is not None else None
        for name in ("backendRequest", "request"):
            given = at(rule.content, f"timeouts.{name}")
            if given is not None:
                break
        else:
            name, given = "request", by_policy
        found = seconds(given)
        if found is None or found > 0:
            limit = "15 s, Envoy's default" if found is None else f"{found:g} s"
            yield Finding(
                Severity.ERROR if found is None or found < 60 else Severity.WARNING,
                rule.route.subject, f"{rule.field}.timeouts.{name}",
                f"every answer is cut after {limit}",
                "set timeouts.request: 0s; the processor bounds the wait for an answer's head by itself",
            )  # fmt: skip
        if rule.content.get("retry") is not None:
            yield Finding(
                Severity.WARNING, rule.route.subject, f"{rule.field}.retry",
                "it replaces the BackendTrafficPolicy's retries on this route",
                "remove it, or give it the policy's codes and at most its number of attempts",
            )  # fmt: skip


def backends(setup: Setup) -> Iterator[Finding]:
    """The Service behind the placed rule exists and one endpoint override can reach all of it."""
    for rule in setup.rules():
        for index, ref in enumerate(listed(rule.content, "backendRefs")):
            field = f"{rule.field}.backendRefs[{index}]"
            if at(ref, "filters"):
                yield Finding(
                    Severity.ERROR, rule.route.subject, f"{field}.filters",
                    "a filter on a backend splits the cluster, and the picked engine is found only by luck",
                    "move the filter to the rule",
                )  # fmt: skip
            if at(ref, "kind") in (None, "Service"):
                yield from _service(setup, rule, str(at(ref, "name")), at(ref, "namespace"), field)


def _service(setup: Setup, rule: Rule, name: str, namespace: str | None, field: str) -> Iterator[Finding]:
    service = setup.cluster.find("Service", namespace or rule.route.namespace, name)
    if service is None:
        if "Service" not in setup.cluster.unread:
            yield Finding(
                Severity.ERROR, rule.route.subject, field, f"there is no Service {name}: every request is 500",
                "apply the manifests' Service for engines",
            )  # fmt: skip
        return
    if not setup.cluster.knows("EndpointSlice") or service.at("spec.selector"):
        return
    slices = [
        one
        for one in setup.cluster.all("EndpointSlice")
        if one.namespace == service.namespace
        and one.mapping("metadata.labels").get("kubernetes.io/service-name") == name
    ]  # fmt: skip
    if not any(one.items("endpoints") for one in slices):
        yield Finding(
            Severity.ERROR, service.subject, "",
            "no endpoints are published for it: every request is 503",
            f"see that a processor runs with --publish-service {name}, holds the Lease and knows engines",
        )  # fmt: skip
    for one in slices:
        if one.mapping("metadata.labels").get("endpointslice.kubernetes.io/managed-by") != MANAGER:
            continue
        if any(at(each, "conditions.ready") is not False for each in one.items("endpoints")):
            yield Finding(
                Severity.ERROR, one.subject, "endpoints",
                "an endpoint is published as ready: Envoy may send it requests of another model",
                "let the processor write these slices alone",
            )  # fmt: skip


CHECKS: Final = (placed_rule, catch_all, shadowed, header_survives, timeouts, backends)
