"""Translates Kubernetes objects into the endpoints of one source, and their changes into its changes.

The work for an event is proportional to the event: only the changed object is translated again, only its addresses are
decided again. No content of an object makes it raise.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from aibrix_extproc.core.fleet.kubernetes.endpointslice import translate_slice
from aibrix_extproc.core.fleet.kubernetes.inferencepool import PoolPlan, active_ports, plan_of
from aibrix_extproc.core.fleet.kubernetes.modeladapter import with_adapters
from aibrix_extproc.core.fleet.kubernetes.objects import (
    EndpointSlice,
    InferencePool,
    KubeObject,
    ModelAdapter,
    Pod,
    labels_of,
    subject_of,
)
from aibrix_extproc.core.fleet.kubernetes.podspec import Translation, slimmed, translate_pod
from aibrix_extproc.core.fleet.model import Endpoint, Health
from aibrix_extproc.core.fleet.reduce import ASKED, Changed, Gone, Listed, SourceChange

MANY: Final = 8  # changes at once; more are cheaper as one listing, which is one step for readers
WITHDRAWN: Final = "the InferencePool is gone"


@dataclass(frozen=True, slots=True)
class _Claim:
    """An endpoint that an object has at an address. Of several at one address, the greatest rank wins."""

    subject: str
    endpoint: Endpoint
    rank: tuple[bool, str, str]  # may be picked, created, identity: a reused address is that of the newer pod


class KubeFleet:
    """The objects of one cluster. With `pooled`, an InferencePool selects the pods; without it there are none."""

    def __init__(self, source: str, *, pooled: bool = False) -> None:
        self._source = source
        self._pooled = pooled
        self._objects: dict[str, KubeObject] = {}
        self._translated: dict[str, Translation] = {}
        self._adapters: dict[str, dict[str, ModelAdapter]] = {}  # by the subject of a pod, then their own
        self._claims: dict[str, dict[str, _Claim]] = {}  # by address (without one: identity), then identity
        self._emitted: dict[str, Endpoint] = {}  # by the same: as emitted last
        self._touched: set[str] = set()
        self._losers: dict[str, tuple[tuple[str, str], ...]] = {}  # by address: the subjects that lost it, and why
        self._unreadable: dict[str, str] = {}
        self._plan: PoolPlan | None = None

    @property
    def plan(self) -> PoolPlan | None:
        """The selector and ports of the InferencePool; None while there is none."""
        return self._plan

    def put(self, one: KubeObject) -> None:
        """Take in an object, new or changed."""
        before = self._objects.get(one.subject)
        if before is not None and before.metadata.resource_version == one.metadata.resource_version != "":
            return
        one = self._objects[one.subject] = slimmed(one)
        self._unreadable.pop(one.subject, None)
        match one:
            case Pod() | EndpointSlice():
                self._translate_object(one)
            case ModelAdapter():
                self._name_pods(before, one)
            case InferencePool():
                self._plan_by(plan_of(one))

    def drop(self, subject: str) -> None:
        """An object is gone."""
        self._unreadable.pop(subject, None)
        match self._objects.pop(subject, None):
            case Pod() | EndpointSlice():
                self._replace(subject, "", Translation())
            case ModelAdapter() as adapter:
                self._name_pods(adapter, None)
            case InferencePool():
                self._plan_by(None)

    def keep_only(self, kind: type[KubeObject], namespace: str | None, subjects: set[str]) -> None:
        """A listing of a namespace (None: of all) is complete: objects that were not in it are gone."""
        lost = [
            subject
            for subject, one in self._objects.items()
            if type(one) is kind and namespace in (None, one.metadata.namespace) and subject not in subjects
        ]
        prefix = subject_of(kind, namespace or "", "")[: None if namespace else -1]
        lost += [one for one in self._unreadable if one.startswith(prefix) and one not in subjects]
        for subject in lost:
            self.drop(subject)

    def unreadable(self, subject: str, why: str) -> None:
        """An object cannot be read; its earlier version does not count any more."""
        self.drop(subject)
        self._unreadable[subject] = f"left out: {why}"

    def listed(self) -> Listed:
        """All endpoints."""
        self._resolve()
        return Listed(self._source, tuple(self._emitted.values()))

    def changes(self) -> tuple[SourceChange, ...]:
        """The changes since the last call of this or of `listed`."""
        gone, changed = self._resolve()
        if len(gone) + len(changed) > MANY:
            return (Listed(self._source, tuple(self._emitted.values())),)
        return (
            *(Gone(self._source, identity) for identity in gone),
            *(Changed(self._source, one) for one in changed),
        )

    def warnings(self) -> dict[str, str]:
        """One line of warnings for each object."""
        found: dict[str, list[str]] = {subject: [why] for subject, why in self._unreadable.items()}
        for subject, translation in self._translated.items():
            if translation.warnings:
                found.setdefault(subject, []).extend(translation.warnings)
        for subject, why in chain.from_iterable(self._losers.values()):
            found.setdefault(subject, []).append(why)
        for subject, why in self._adapters_without_pods():
            found.setdefault(subject, []).append(why)
        if self._plan is not None and self._plan.warnings:
            found.setdefault("InferencePool", []).extend(self._plan.warnings)
        return {subject: "; ".join(why) for subject, why in sorted(found.items())}

    def left_out(self) -> int:
        """The number of objects that correctly give no endpoint: Ray workers, ended pods, slices of pods."""
        return sum(1 for one in self._translated.values() if one.left_out)

    def _adapters_without_pods(self) -> Iterator[tuple[str, str]]:
        for pod, adapters in self._adapters.items():
            if pod not in self._objects:
                for subject in adapters:
                    yield subject, f"it names {pod}, which is not there or not selected"

    def _name_pods(self, before: KubeObject | None, after: ModelAdapter | None) -> None:
        named = set()
        for adapter in (before, after):
            if isinstance(adapter, ModelAdapter):
                for pod in _pods_of(adapter):
                    self._adapters.setdefault(pod, {}).pop(adapter.subject, None)
                    named.add(pod)
        if after is not None:
            for pod in _pods_of(after):
                self._adapters.setdefault(pod, {})[after.subject] = after
        for pod in named:
            if not self._adapters[pod]:
                del self._adapters[pod]
            if pod in self._objects:
                self._translate_object(self._objects[pod])

    def _plan_by(self, plan: PoolPlan | None) -> None:
        if plan == self._plan:
            return
        # A pool that is deleted or broken keeps its ports, so its models are known, and not ready.
        gone = plan is None or not plan.selector
        if gone and self._plan is not None:
            plan = replace(self._plan, selector="", warnings=plan.warnings if plan else (WITHDRAWN,))
        self._plan = plan
        for one in [one for one in self._objects.values() if isinstance(one, Pod)]:
            self._translate_object(one)

    def _translate_object(self, one: KubeObject) -> None:
        created = one.metadata.creation_timestamp or ""
        match one:
            case Pod():
                adapters = self._adapters.get(one.subject)
                given = self._translate(one)
                if adapters:
                    given = with_adapters(given, labels_of(one), adapters.values())
                self._replace(one.subject, created, given)
            case EndpointSlice():
                self._replace(one.subject, created, translate_slice(one))

    def _translate(self, pod: Pod) -> Translation:
        if not self._pooled:
            return translate_pod(pod)
        if self._plan is None:
            return Translation(left_out="no InferencePool yet")
        ports, warnings = active_ports(pod, self._plan.ports)
        given = translate_pod(pod, ports)
        endpoints = given.endpoints
        if not self._plan.selector:
            endpoints = tuple(replace(one, health=Health.NOT_READY, detail=WITHDRAWN) for one in endpoints)
        return replace(given, endpoints=endpoints, warnings=given.warnings + warnings)

    def _replace(self, subject: str, created: str, given: Translation) -> None:
        before = self._translated.pop(subject, Translation())
        for endpoint in before.endpoints:
            slot = _address_key(endpoint)
            claims = self._claims[slot]
            claims.pop(endpoint.identity, None)
            if not claims:
                del self._claims[slot]
            self._touched.add(slot)
        for endpoint in given.endpoints:
            slot = _address_key(endpoint)
            rank = (endpoint.health in ASKED, created, endpoint.identity)
            self._claims.setdefault(slot, {})[endpoint.identity] = _Claim(subject, endpoint, rank)
            self._touched.add(slot)
        if given != Translation():
            self._translated[subject] = given

    def _resolve(self) -> tuple[list[str], list[Endpoint]]:
        """Decide about the touched addresses; returns gone identities, and new or changed endpoints."""
        gone: list[str] = []
        changed: list[Endpoint] = []
        for slot in sorted(self._touched):
            before, after = self._emitted.get(slot), self._winner(slot)
            if before is not None and (after is None or after.identity != before.identity):
                gone.append(before.identity)
            if after is None:
                self._emitted.pop(slot, None)
            else:
                self._emitted[slot] = after
                if after != before:
                    changed.append(after)
        self._touched.clear()
        return gone, changed

    def _winner(self, slot: str) -> Endpoint | None:
        claims = self._claims.get(slot)
        self._losers.pop(slot, None)
        if not claims:
            return None
        best = max(claims.values(), key=lambda claim: claim.rank)
        losers = [claim for claim in claims.values() if claim is not best and claim.rank[0]]
        if losers:
            self._losers[slot] = tuple(
                (claim.subject, f"left out: its address {slot} is also that of {best.subject}, which is newer")
                for claim in losers
            )
        return best.endpoint


def _address_key(endpoint: Endpoint) -> str:
    return endpoint.address or endpoint.identity


def _pods_of(adapter: ModelAdapter) -> Iterable[str]:
    return (subject_of(Pod, adapter.metadata.namespace, name) for name in adapter.status.instances or ())
