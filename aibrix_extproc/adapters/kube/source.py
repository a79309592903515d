"""The cluster as a source of endpoints: several watches, one fleet, one status."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from aibrix_extproc.adapters.kube import watching
from aibrix_extproc.adapters.kube.access import ClusterAccess, find_access
from aibrix_extproc.adapters.kube.api import KubeApi
from aibrix_extproc.adapters.kube.errors import KubeApiError, KubeUnreachable
from aibrix_extproc.adapters.kube.resources import ADAPTERS, PODS, POOLS, SLICES, Feed, watched_namespaces
from aibrix_extproc.adapters.kube.watching import Watch, WatchEvent, WatchPace
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.config_files.file import OnStatus, SourceStatus, StatusReporter
from aibrix_extproc.core.fleet.kubernetes.kubefleet import KubeFleet
from aibrix_extproc.core.fleet.kubernetes.objects import KubeObject, subject_of
from aibrix_extproc.core.fleet.kubernetes.slices import MANAGER, MANAGER_LABEL
from aibrix_extproc.core.fleet.reduce import SourceChange
from aibrix_extproc.settings import KubernetesSettings

logger = logging.getLogger(__name__)

Emit = Callable[[SourceChange], None]
GATHER_SECONDS: Final = 0.02  # changes that come closer together become one step of the fleet
WARNING_SECONDS: Final = 5.0  # a ModelAdapter often comes before its pods, so the first warnings may be gone soon
MAX_WARNING_LINES: Final = 20


@dataclass(slots=True)
class _FeedState:
    """The state of one watch."""

    needed: bool  # without it there is no fleet; the others only add to it
    listed: bool = False
    error: str = ""
    alive_at: float | None = None  # monotonic


class _Named(msgspec.Struct):
    name: str = ""
    namespace: str = ""


class _WithName(msgspec.Struct):
    metadata: _Named


class KubernetesSource:
    """Pods of one cluster and related objects. Raises KubeConfigError if there is no way to reach the cluster."""

    name = "kubernetes"

    def __init__(
        self,
        settings: KubernetesSettings,
        on_status: OnStatus,
        *,
        pace: WatchPace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._access: ClusterAccess = find_access(settings.kubeconfig, settings.context)
        self._reporter = StatusReporter(self.name, on_status)
        self._pace = pace or WatchPace(page_size=settings.page_size, silence_seconds=settings.silence_seconds)
        self._clock = clock
        self._started_at = clock()
        self._fleet = KubeFleet(self.name, pooled=settings.inference_pool is not None)
        self._states: dict[Feed, _FeedState] = {}
        self._seen: dict[Feed, set[str]] = {}  # in the listing that is under way
        self._emitted = False  # the first listing
        self._publishing: asyncio.TimerHandle | None = None
        self._pod_watch: asyncio.Task[None] | None = None
        self._selector = ""
        self._logged: dict[str, str] = {}

    @property
    def status(self) -> SourceStatus:
        """The latest status."""
        return self._reporter.status

    def age_seconds(self) -> float:
        """Since the last event of the watch that is furthest behind; a quiet one has a bookmark each minute."""
        times = [state.alive_at for state in self._states.values() if state.needed]
        since = min((self._started_at if at is None else at for at in times), default=self._started_at)
        return self._clock() - since

    def warnings(self) -> Mapping[str, str]:
        """Warnings about objects of the cluster, by object."""
        return self._fleet.warnings()

    async def run(self, emit: Emit) -> None:
        """Emit the fleet once everything was listed, then its changes, until cancelled."""
        async with KubeApi(self._access) as api, asyncio.TaskGroup() as group:
            for feed in self._feeds():
                self._start(group, api, feed, emit)
            group.create_task(self._log_warnings())

    def _feeds(self) -> Iterable[Feed]:
        settings, namespaces = self._settings, watched_namespaces(self._settings.namespaces, self._access.namespace)
        if settings.inference_pool is not None:
            # A pool selects pods of its own namespace only; they are watched once the pool is read.
            namespaces = (namespaces[0] or self._access.namespace,)
            yield Feed(POOLS, namespaces[0], fields=f"metadata.name={settings.inference_pool}")
        for namespace in namespaces:
            if settings.inference_pool is None:
                yield Feed(PODS, namespace, settings.pod_selector)
            if settings.model_adapters:
                yield Feed(ADAPTERS, namespace)
            if settings.slice_selector is not None:
                # Without our own slices: they would keep engines that are gone.
                yield Feed(SLICES, namespace, f"{settings.slice_selector},{MANAGER_LABEL}!={MANAGER}")

    def _start(self, group: asyncio.TaskGroup, api: KubeApi, feed: Feed, emit: Emit) -> "asyncio.Task[None]":
        self._states[feed] = _FeedState(needed=feed.resource in (PODS, POOLS))
        self._seen[feed] = set()

        def on_event(event: WatchEvent) -> None:
            self._take(feed, event)
            if feed.resource is POOLS:
                self._follow_plan(group, api, feed, emit)
            if isinstance(event, watching.Alive | watching.ListComplete | watching.NotInstalled | watching.Failed):
                self._report()
                self._publish_soon(emit)

        return group.create_task(Watch(api, feed, on_event, self._pace).run())

    def _follow_plan(self, group: asyncio.TaskGroup, api: KubeApi, pool: Feed, emit: Emit) -> None:
        """Watch the pods that the InferencePool selects; after its deletion, those that it selected."""
        plan = self._fleet.plan
        if plan is None or not plan.selector or plan.selector == self._selector:
            return
        self._selector = plan.selector
        if self._pod_watch is not None:
            self._pod_watch.cancel()
            for feed in [feed for feed in self._states if feed.resource is PODS]:
                del self._states[feed], self._seen[feed]
        self._pod_watch = self._start(group, api, Feed(PODS, pool.namespace, plan.selector), emit)

    def _take(self, feed: Feed, event: WatchEvent) -> None:
        state = self._states.get(feed)
        if state is None:
            return  # a watch that was replaced, and is being cancelled
        match event:
            case watching.ListBegun():
                self._seen[feed] = set()
            case watching.Put(raw, listed):
                subjects = {self._put(feed, one) for one in raw}
                if listed:
                    self._seen[feed] |= subjects
            case watching.Deleted(raw):
                self._fleet.drop(self._subject(feed, raw))
            case watching.ListComplete():
                self._fleet.keep_only(feed.resource.kind, feed.namespace, self._seen[feed])
                state.listed, state.alive_at = True, self._clock()
            case watching.Alive():
                state.error, state.alive_at = "", self._clock()
            case watching.NotInstalled():
                self._absent(feed, state)
            case watching.Failed(error, again):
                self._lost(feed, state, error, again=again)

    def _put(self, feed: Feed, raw: bytes) -> str:
        """Take in one object; returns its subject, empty if that cannot be read."""
        kind: type[KubeObject] = feed.resource.kind
        try:
            one = msgspec.json.decode(raw, type=kind)
        except (msgspec.DecodeError, RecursionError) as error:
            subject = self._subject(feed, raw)
            if subject:
                self._fleet.unreadable(subject, f"it cannot be read: {error}")
            else:
                logger.warning("an object of the API server has no name", extra={"feed": feed.title})
            return subject
        self._fleet.put(one)
        return one.subject

    def _subject(self, feed: Feed, raw: bytes) -> str:
        try:
            named = msgspec.json.decode(raw, type=_WithName).metadata
        except (msgspec.DecodeError, RecursionError):
            return ""
        return subject_of(feed.resource.kind, named.namespace, named.name)

    def _absent(self, feed: Feed, state: _FeedState) -> None:
        self._fleet.keep_only(feed.resource.kind, feed.namespace, set())
        state.alive_at = self._clock()
        state.listed = True
        state.error = f"{feed.resource.title}: not installed in the cluster" if state.needed else ""

    def _lost(self, feed: Feed, state: _FeedState, error: SourceError, *, again: bool) -> None:
        refused = isinstance(error, KubeApiError)
        if refused and not state.needed:
            state.listed = True  # a kind that only adds to the fleet must not delay it
        if again or refused or not state.listed:  # a single lost connection is normal
            state.error = self._described(feed, error)

    def _described(self, feed: Feed, error: SourceError) -> str:
        if isinstance(error, KubeApiError):
            if error.status == 403:
                instead = " or set kubernetes.model_adapters to false" if feed.resource is ADAPTERS else ""
                return f"{feed.title}: not allowed; {feed.resource.rule(feed.namespace)}{instead} ({error})"
            if error.status == 401:
                return f"the API server does not accept the credentials of {self._access.described} ({error})"
            return f"{feed.title}: the API server answered {error.status}: {error}"
        return str(error) if isinstance(error, KubeUnreachable) else f"{feed.title}: {error}"

    def _report(self) -> None:
        errors = list(dict.fromkeys(state.error for state in self._states.values() if state.error))
        pool = self._settings.inference_pool
        if pool is not None and not errors and self._listed(POOLS) and not (self._fleet.plan and self._selected()):
            errors.append(f"the InferencePool {pool} is not there or selects nothing; see the remarks")
        if errors or all(state.listed for state in self._states.values()):
            self._reporter.report("; ".join(errors))

    def _selected(self) -> bool:
        plan = self._fleet.plan
        return plan is not None and bool(plan.selector)

    def _listed(self, resource: object) -> bool:
        return all(state.listed for feed, state in self._states.items() if feed.resource is resource)

    def _publish_soon(self, emit: Emit) -> None:
        if self._publishing is None:
            self._publishing = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._publish, emit)

    def _publish(self, emit: Emit) -> None:
        self._publishing = None
        if self._emitted:
            for change in self._fleet.changes():
                emit(change)
        elif any(feed.resource is PODS for feed in self._states) and all(one.listed for one in self._states.values()):
            self._emitted = True
            emit(self._fleet.listed())

    async def _log_warnings(self) -> None:
        while True:
            await asyncio.sleep(WARNING_SECONDS)
            warnings = self._fleet.warnings()
            fresh = [(subject, why) for subject, why in warnings.items() if self._logged.get(subject) != why]
            for subject, why in fresh[:MAX_WARNING_LINES]:
                logger.warning("something of the cluster cannot be used", extra={"object": subject, "reason": why})
            if len(fresh) > MAX_WARNING_LINES:
                logger.warning("more of the cluster cannot be used", extra={"objects": len(fresh) - MAX_WARNING_LINES})
            self._logged = warnings
