"""Reads a cluster for `doctor`: whole objects, what accounts may do, and reports of processors. Writes nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from aibrix_extproc.adapters.kube.access import find_access
from aibrix_extproc.adapters.kube.api import KubeApi
from aibrix_extproc.adapters.kube.errors import KubeApiError
from aibrix_extproc.adapters.kube.resources import ADAPTERS, PODS, SERVICES, SLICES, Resource
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.core.fleet.kubernetes.kubefleet import KubeFleet
from aibrix_extproc.core.fleet.kubernetes.objects import KubeObject, ModelAdapter, Pod, subject_of
from aibrix_extproc.doctor.access_checks import Permission
from aibrix_extproc.doctor.fleet_checks import Report
from aibrix_extproc.doctor.objects import Cluster, Thing, at, thing_of

PAGE: Final = 500
MAX_PAGES: Final = 40
REPORT_SECONDS: Final = 5.0  # a pod that nothing reaches holds the API server's proxy for half a minute
NOT_READY: Final = 503
CONTROLLER_NAMES: Final = ("envoy-gateway", "envoy-gateway-config")


_GATEWAY: Final = ("gateway.networking.k8s.io", "v1")
_ENVOY: Final = ("gateway.envoyproxy.io", "v1alpha1")
CONFIG_MAPS: Final = Resource("ConfigMap", "", "v1", "configmaps")
DEPLOYMENTS: Final = Resource("Deployment", "apps", "v1", "deployments")
KINDS: Final = (
    Resource("GatewayClass", *_GATEWAY, "gatewayclasses", namespaced=False),
    Resource("Gateway", *_GATEWAY, "gateways"),
    Resource("HTTPRoute", *_GATEWAY, "httproutes"),
    Resource("EnvoyProxy", *_ENVOY, "envoyproxies"),
    Resource("HTTPRouteFilter", *_ENVOY, "httproutefilters"),
    Resource("EnvoyExtensionPolicy", *_ENVOY, "envoyextensionpolicies"),
    Resource("ClientTrafficPolicy", *_ENVOY, "clienttrafficpolicies"),
    Resource("BackendTrafficPolicy", *_ENVOY, "backendtrafficpolicies"),
    SERVICES,
    SLICES,
    DEPLOYMENTS,
    CONFIG_MAPS,
    Resource("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers"),
    Resource("BackendTLSPolicy", "gateway.networking.k8s.io", "v1", "backendtlspolicies"),
    Resource("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies"),
)
OF_CONTROLLER: Final = (DEPLOYMENTS, CONFIG_MAPS)


class Inspector:
    """A connection that reads only."""

    def __init__(self, api: KubeApi, described: str) -> None:
        self._api = api
        self.described = described

    async def cluster(self, namespace: str, controller_namespace: str) -> Cluster:
        """The objects in the Gateway's namespace, and Envoy Gateway's own Deployment and configuration."""
        things: list[Thing] = []
        unread: dict[str, str] = {}
        for kind in KINDS:
            try:
                things += await self._listed(kind, namespace)
            except KubeApiError as error:
                unread[kind.name] = "its kind is not installed" if error.status == 404 else str(error)
        for kind in OF_CONTROLLER:
            try:
                found = await self._listed(kind, controller_namespace)
            except KubeApiError:
                continue  # a check says that it was not found
            things += [one for one in found if one.name in CONTROLLER_NAMES and one not in things]
        return Cluster(tuple(things), live=True, unread=unread)

    async def fleet(self, namespaces: Iterable[str], selector: str) -> tuple[Mapping[str, str], int]:
        """Read engines as the processor does; returns the warnings by object, and the number of endpoints.

        An empty namespace stands for all.
        """
        fleet = KubeFleet("doctor", pooled=False)
        for namespace in namespaces:
            for raw in await self._pages(PODS, namespace, {"labelSelector": selector}):
                _put(fleet, Pod, raw)
            try:
                for raw in await self._pages(ADAPTERS, namespace, {}):
                    _put(fleet, ModelAdapter, raw)
            except KubeApiError:
                pass  # its kind is not installed, or may not be read, which the check of permissions reports
        found = fleet.listed()
        return fleet.warnings(), len(found.endpoints)

    async def allowed(self, account: tuple[str, str], wanted: Iterable[Permission]) -> Mapping[Permission, bool]:
        """Permissions of a service account (namespace, name); needs the right to create SubjectAccessReviews."""
        namespace, name = account
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
        answers: dict[Permission, bool] = {}
        for one in wanted:
            attributes = {
                "verb": one.verb, "group": one.group, "resource": one.resource,
                **({"namespace": one.namespace} if one.namespace else {}),
                **({"name": one.name} if one.name else {}),
            }  # fmt: skip
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": f"system:serviceaccount:{namespace}:{name}",
                    "groups": groups,
                    "resourceAttributes": attributes,
                },
            }
            answer = await self._api.write("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
            answers[one] = at(json.loads(answer), "status.allowed") is True
        return answers

    async def reports(self, namespace: str, labels: Mapping[str, str], port: int) -> list[Report]:
        """The pages of each processor's admin port, read through the API server."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        pods = await self._pages(PODS, namespace, {"labelSelector": selector})
        names = [str(at(json.loads(raw), "metadata.name")) for raw in pods]
        return list(await asyncio.gather(*(self._report(namespace, name, port) for name in names)))

    async def _report(self, namespace: str, name: str, port: int) -> Report:
        subject = f"Pod {namespace}/{name}"
        proxy = f"/api/v1/namespaces/{quote(namespace, '')}/pods/{quote(name, '')}:{port}/proxy"
        try:
            fleet = json.loads(await self._api.get(f"{proxy}/fleet", {}, seconds=REPORT_SECONDS))
        except (SourceError, ValueError) as error:
            return Report(subject, error=str(error), denied=isinstance(error, KubeApiError) and error.status == 403)
        try:
            said = await self._api.get(f"{proxy}/readyz", {}, seconds=REPORT_SECONDS, also=NOT_READY)
            health = json.loads(said)
        except (SourceError, ValueError):
            health = None
        # The API server itself answers 503 by a Status.
        known = isinstance(health, dict) and "ready" in health
        return Report(subject, health if known else {"ready": False}, fleet)

    async def _listed(self, kind: Resource, namespace: str) -> list[Thing]:
        found = []
        for raw in await self._pages(kind, namespace, {}):
            content = {"kind": kind.name, **json.loads(raw)}
            thing = thing_of(content)
            if thing is not None:
                found.append(thing)
        return found

    async def _pages(self, kind: Resource, namespace: str, query: Mapping[str, str]) -> list[bytes]:
        found: list[bytes] = []
        more = ""
        for _ in range(MAX_PAGES):
            given = {**query, "limit": str(PAGE), **({"continue": more} if more else {})}
            page = msgspec.json.decode(await self._api.get(kind.path(namespace or None), given), type=_Page)
            found += [bytes(one) for one in page.items or ()]
            more = page.metadata.continue_ or ""
            if not more:
                break
        return found


class _ListMeta(msgspec.Struct):
    continue_: str | None = msgspec.field(default=None, name="continue")


class _Page(msgspec.Struct):
    items: list[msgspec.Raw] | None = None
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)


def _put(fleet: KubeFleet, kind: type[KubeObject], raw: bytes) -> None:
    try:
        fleet.put(msgspec.json.decode(raw, type=kind))
    except (msgspec.DecodeError, RecursionError) as error:
        content: Any = json.loads(raw)
        subject = subject_of(kind, str(at(content, "metadata.namespace")), str(at(content, "metadata.name")))
        fleet.unreadable(subject, f"it cannot be read: {error}")


@asynccontextmanager
async def inspecting(kubeconfig: Path | None, context: str | None) -> AsyncIterator[Inspector]:
    """An inspector of the cluster that a kubeconfig names. Raises KubeConfigError if there is no way to reach it."""
    access = find_access(kubeconfig, context)
    async with KubeApi(access) as api:
        yield Inspector(api, access.described)
