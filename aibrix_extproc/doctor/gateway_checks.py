"""Envoy Gateway itself, the Gateway, and the Envoy behind it."""

import re
from collections.abc import Iterator
from typing import Final

from aibrix_extproc.doctor.finding import Finding, Severity
from aibrix_extproc.doctor.objects import Thing, at, condition, listed, seconds
from aibrix_extproc.doctor.setup import Setup

CONTROLLER: Final = "gateway.envoyproxy.io/gatewayclass-controller"
OLDEST: Final = (1, 7)
COUNTING: Final = (1, 9)  # its Envoy tells us of the ends of answers without being asked to
CLOSES_EARLY: Final = "envoy.reloadable_features.ext_proc_stream_close_optimization"
LONG_DRAIN: Final = 600.0
_VERSION: Final = re.compile(r":v?(\d+)\.(\d+)")
_LUA_ON: Final = re.compile(  # in block and flow style, but not in a comment
    r"""^(?:[^#\n]*[ \t{,])?(["']?)enableLua\1[ \t]*:[ \t]*(?:true|True|TRUE)(?=\s*(?:[,}]|$)|[ \t]+\#)""", re.MULTILINE
)
NO_ADDRESS: Final = "AddressNotAssigned"


def gateway_class(setup: Setup) -> Iterator[Finding]:
    """The Gateway is Envoy Gateway's, and its class is accepted."""
    name = setup.gateway.at("spec.gatewayClassName")
    found = setup.cluster.find("GatewayClass", "", str(name))
    if found is None:
        if setup.cluster.knows("GatewayClass"):
            yield Finding(
                Severity.ERROR, setup.gateway.subject, "spec.gatewayClassName",
                f"there is no GatewayClass {name}: nobody runs an Envoy for this Gateway",
                "apply the manifests' GatewayClass, or name that of your Envoy Gateway",
            )  # fmt: skip
        return
    if found.at("spec.controllerName") != CONTROLLER:
        yield Finding(
            Severity.ERROR, found.subject, "spec.controllerName",
            "another controller than Envoy Gateway serves it, and ignores our policies: no request reaches an engine",
            f"use a GatewayClass of {CONTROLLER}",
        )  # fmt: skip


def conditions(setup: Setup) -> Iterator[Finding]:
    """The controller has accepted and programmed everything."""
    if not setup.cluster.live:
        return
    found = setup.gateway.items("status.conditions")
    for kind in ("Accepted", "Programmed"):
        one = condition(found, kind)
        if one is not None and one.get("reason") == NO_ADDRESS:
            yield _without_address(setup)
        else:
            yield from _unmet(setup.gateway, found, kind, "status.conditions")
    yield from _listeners(setup.gateway)
    for route in setup.routes:
        for parent in route.items("status.parents"):
            if at(parent, "parentRef.name") == setup.gateway.name:
                for kind in ("Accepted", "ResolvedRefs"):
                    yield from _unmet(route, listed(parent, "conditions"), kind, "status.parents")
    for kind in ("EnvoyExtensionPolicy", "ClientTrafficPolicy", "BackendTrafficPolicy"):
        for policy in (*setup.on_gateway(kind), *(one for one, _ in setup.on_routes(kind))):
            yield from _policy(setup, policy)


def _without_address(setup: Setup) -> Finding:
    """All else is programmed: Envoy Gateway says this of a Gateway that works."""
    return Finding(
        Severity.WARNING, setup.gateway.subject, "status.conditions",
        "nobody has given its Service of type LoadBalancer an address: it is reached inside of the cluster and by"
        " port-forward alone",
        "install a load balancer, or set envoyService.type of the EnvoyProxy",
    )  # fmt: skip


def _listeners(gateway: Thing) -> Iterator[Finding]:
    """A listener without its certificate is taken away, and the Gateway is called programmed all the same."""
    for listener in gateway.items("status.listeners"):
        found = listed(listener, "conditions")
        for kind in ("ResolvedRefs", "Accepted", "Programmed"):  # the first of them says why
            one = condition(found, kind)
            if one is not None and one.get("status") != "True":
                yield from _unmet(gateway, found, kind, f"status.listeners[{at(listener, 'name')}]")
                break


def _policy(setup: Setup, policy: Thing) -> Iterator[Finding]:
    ancestors = [one for one in policy.items("status.ancestors") if _is_of(setup.gateway, one)]
    if not ancestors:
        yield Finding(
            Severity.ERROR, policy.subject, "status.ancestors", "no controller has looked at it: it has no effect",
            "see that Envoy Gateway runs and watches this namespace",
        )  # fmt: skip
    for ancestor in ancestors:
        found = listed(ancestor, "conditions")
        yield from _unmet(policy, found, "Accepted", "status.ancestors")
        overridden = condition(found, "Overridden")
        if overridden is not None and overridden.get("status") == "True" and _rules(setup, policy):
            yield Finding(
                Severity.ERROR, policy.subject, "status.ancestors",
                f"another policy overrides it: {overridden.get('message', '')}",
                "remove the other policy, or repeat in it what this one says: a route's replaces the Gateway's whole",
            )  # fmt: skip


def _is_of(gateway: Thing, ancestor: object) -> bool:
    """Whether it is about our Gateway: a policy with several targets has an ancestor for each."""
    ref = at(ancestor, "ancestorRef")
    return at(ref, "kind") != "Gateway" or (at(ref, "name"), at(ref, "namespace") or gateway.namespace) == (
        gateway.name, gateway.namespace,
    )  # fmt: skip


def _rules(setup: Setup, policy: Thing) -> bool:
    """Whether we count on it where it is overridden.

    A BackendTrafficPolicy of the Gateway may be by that of our route, its EnvoyExtensionPolicy by that for uploads.
    """
    if policy.kind == "EnvoyExtensionPolicy":
        overriding = [(one, route) for one, route in setup.on_routes(policy.kind) if one is not policy]
        return not overriding or not all(setup.takes_heads_alone(*one) for one in overriding)
    if policy.kind != "BackendTrafficPolicy":
        return True
    rules = (*setup.rules(), *setup.metadata_rules())
    return any(setup.in_force(policy.kind, rule.route) is policy for rule in rules if rule.to_backends)


def _unmet(thing: Thing, found: list[object], kind: str, field: str) -> Iterator[Finding]:
    one = condition(found, kind)
    if one is None or one.get("status") != "True":
        why = f"{one.get('reason')}: {one.get('message')}" if one is not None else "no controller has said so yet"
        fix = "correct what the message names; until then Envoy answers 404 or 500, or ignores the policy"
        if "lua" in why.lower() and "disabled" in why.lower():
            fix = "set extensionApis.enableLua: true in Envoy Gateway's configuration, or drop the component metering"
        yield Finding(Severity.ERROR, thing.subject, field, f"it is not {kind} ({why})", fix)


def version(setup: Setup) -> Iterator[Finding]:
    """Envoy Gateway is new enough."""
    controllers = [one for one in setup.cluster.all("Deployment") if one.name == "envoy-gateway"]
    if not controllers and setup.cluster.live:
        yield Finding(
            Severity.NOTE, "Deployment envoy-gateway-system/envoy-gateway", "",
            "Envoy Gateway's own Deployment was not found or may not be read, so its version is not known",
            f"see that it is {OLDEST[0]}.{OLDEST[1]} or newer",
        )  # fmt: skip
    for one in controllers:
        image = str(at((one.items("spec.template.spec.containers") or [{}])[0], "image") or "")
        found = _VERSION.search(image)
        number = (int(found[1]), int(found[2])) if found is not None else COUNTING
        if number < OLDEST:
            yield Finding(
                Severity.ERROR, one.subject, "spec.template.spec.containers[0].image",
                f"{image} is older than {OLDEST[0]}.{OLDEST[1]}: its Envoy does not show us its own errors, so clients"
                " get plain text",
                f"upgrade Envoy Gateway to {OLDEST[0]}.{OLDEST[1]} or newer",
            )  # fmt: skip
        elif number < COUNTING and CLOSES_EARLY not in _bootstrap(setup):
            yield Finding(
                Severity.WARNING, one.subject, "spec.template.spec.containers[0].image",
                f"the Envoy of {image} leaves us at the head of an answer: least-request does not see the streams that"
                " run, and the drain does not wait for them",
                f"upgrade Envoy Gateway to {COUNTING[0]}.{COUNTING[1]} or newer, or set the runtime feature"
                f" {CLOSES_EARLY} to false in the bootstrap of the EnvoyProxy",
            )  # fmt: skip


def _bootstrap(setup: Setup) -> str:
    proxy = setup.proxy()
    return str(proxy.at("spec.bootstrap")) if proxy is not None else ""


def lua_switch(setup: Setup) -> Iterator[Finding]:
    """A Lua policy needs Envoy Gateway's switch."""
    scripted = [one for one in setup.on_gateway("EnvoyExtensionPolicy") if one.items("spec.lua")]
    configs = [one for one in setup.cluster.all("ConfigMap") if one.name == "envoy-gateway-config"]
    for policy in scripted if not configs else ():
        yield Finding(
            Severity.NOTE, policy.subject, "spec.lua",
            "it needs Lua in Envoy Gateway, and that one's configuration could not be read: without it the whole policy"
            " is invalid",
            "see that extensionApis.enableLua is true in the ConfigMap envoy-gateway-config, before you apply it",
        )  # fmt: skip
    for policy in scripted:
        for config in configs:
            if not _LUA_ON.search("\n".join(str(text) for text in config.mapping("data").values())):
                yield Finding(
                    Severity.ERROR, policy.subject, "spec.lua",
                    f"{config.subject} does not switch Lua on: the whole policy is invalid, and requests are answered"
                    " 500 or 503 until it is switched on",
                    "set extensionApis.enableLua: true there and restart Envoy Gateway, or drop the metering component",
                )  # fmt: skip


def envoy_proxy(setup: Setup) -> Iterator[Finding]:
    """Old listeners live long enough for generations."""
    proxy = setup.proxy()
    if proxy is None:
        yield Finding(
            Severity.WARNING, setup.gateway.subject, "spec.infrastructure.parametersRef",
            "no EnvoyProxy is set: a change of a filter cuts every stream that is older than 60 s",
            "refer to an EnvoyProxy with shutdown.drainTimeout of an hour",
        )  # fmt: skip
        return
    drain = seconds(proxy.at("spec.shutdown.drainTimeout"))
    if drain is None or drain < LONG_DRAIN:
        yield Finding(
            Severity.WARNING, proxy.subject, "spec.shutdown.drainTimeout",
            f"streams longer than {drain or 60.0:g} s are cut when a filter changes or Envoy is rolled",
            "set it to your longest generation, such as 1h",
        )  # fmt: skip
    if proxy.at("spec.routingType") == "Service":
        yield Finding(
            Severity.ERROR, proxy.subject, "spec.routingType",
            "Envoy knows Services only, so no picked engine is known to it: every request is 503",
            "remove it, or set Endpoint",
        )  # fmt: skip


CHECKS: Final = (gateway_class, conditions, version, lua_switch, envoy_proxy)
