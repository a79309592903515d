"""Publishes the engines of the fleet as endpoints of one Service: the leading replica writes its EndpointSlices.

The other replicas watch the same slices and have the same fleet, so any of them can continue. Published slices stay
while no replica leads and while the API server cannot be reached; Envoy keeps its endpoints.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

import msgspec

from aibrix_extproc.adapters.kube.access import find_access
from aibrix_extproc.adapters.kube.api import KubeApi
from aibrix_extproc.adapters.kube.errors import KubeApiError
from aibrix_extproc.adapters.kube.own_slices import WRITE_SECONDS, OwnSlices
from aibrix_extproc.adapters.kube.resources import SERVICES
from aibrix_extproc.adapters.kube.watching import DEFAULT_PACE, Watch, WatchPace
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.config_files.file import OnStatus, StatusReporter
from aibrix_extproc.core.fleet.kubernetes.objects import Service
from aibrix_extproc.core.fleet.kubernetes.slices import Owner, Publication, Wanted, WrittenSlice, next_step, wanted_of
from aibrix_extproc.core.fleet.model import Snapshot
from aibrix_extproc.settings import KubernetesSettings

logger = logging.getLogger(__name__)

NAME: Final = "publisher"
ITS_OWN_FAULT: Final = frozenset({400, 404, 413, 422})  # of one slice: the others are written all the same


@dataclass(frozen=True, slots=True)
class PublishPace:
    """Times between writes, in seconds."""

    gather_seconds: float = 0.05  # changes that come closer together are written at once
    rest_seconds: float = 0.15  # after each round: at most five a second
    first_wait_seconds: float = 0.2
    longest_wait_seconds: float = 10.0
    service_seconds: float = 30.0  # between two checks of the Service
    watch: WatchPace = DEFAULT_PACE
    draw: Callable[[], float] = random.random


DEFAULT_PUBLISH_PACE: Final = PublishPace()


class Leader(Protocol):
    """Which of all replicas writes."""

    @property
    def leads(self) -> bool:
        """Whether this replica may write at this moment."""
        ...

    @property
    def leader(self) -> str:
        """The identity of the leader, as last read; empty if there is none."""
        ...

    @property
    def has_leader(self) -> bool:
        """Whether there is a leader that is not overdue."""
        ...

    @property
    def error(self) -> str:
        """Why the last attempt to lead has failed, for the operator; empty if it has not."""
        ...

    def subscribe(self, on_attempt: Callable[[], None]) -> None:
        """Call `on_attempt` after each attempt to lead."""


class EndpointPublisher:
    """Publishes what `snapshot` returns; `wake` says that it has changed. Raises KubeConfigError like a source."""

    def __init__(
        self,
        settings: KubernetesSettings,
        snapshot: Callable[[], Snapshot],
        on_status: OnStatus,
        *,
        leader: Leader,
        on_error: Callable[[], None] = lambda: None,
        pace: PublishPace = DEFAULT_PUBLISH_PACE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert settings.publish_service is not None
        self._access = find_access(settings.kubeconfig, settings.context)
        self._publication = Publication(settings.publish_service, self._access.namespace, settings.publish_port_name)
        self._snapshot = snapshot
        self._reporter = StatusReporter(NAME, on_status)
        self._on_error = on_error
        self._pace = pace
        self._clock = clock
        api = KubeApi(self._access)
        self._api = api
        self._due = asyncio.Event()
        self._slices = OwnSlices(api, self._publication, self.wake)
        self._leader = leader
        leader.subscribe(self._on_election)
        self._wanted = Wanted({})
        self._wanted_from: object = None  # what of the snapshot it was made from
        self._settled = False  # nothing was left to write when we looked last
        self._good_at = clock()
        self._failures = 0
        self._service_checked = False
        self._errors: dict[str, str] = {}  # by what fails: writing, or the Service itself

    @property
    def leads(self) -> bool:
        """Whether this replica writes."""
        return self._leader.leads

    @property
    def published(self) -> int:
        """The number of endpoints in the slices, whichever replica wrote them."""
        return self._slices.size

    def age_seconds(self) -> float:
        """Seconds since the slices were last found equal to the fleet, or another replica was found leading."""
        return self._clock() - self._good_at

    def report(self) -> Mapping[str, object]:
        """For the health page."""
        return {
            "leads": self.leads,
            "leader": self._leader.leader,
            "published": self.published,
            "age_seconds": round(self.age_seconds(), 3),
            "error": self._reporter.status.error,
            "remarks": dict(self._wanted.warnings),
        }

    def wake(self) -> None:
        """Starts a round: the fleet, the slices or the leader has changed."""
        self._settled = False
        self._due.set()

    async def run(self) -> None:
        """Publish while leading, until cancelled."""
        async with self._api, asyncio.TaskGroup() as group:
            group.create_task(Watch(self._api, self._slices.feed, self._slices.on_event, self._pace.watch).run())
            group.create_task(self._check_service_regularly())
            group.create_task(self._keep_writing())

    async def _keep_writing(self) -> None:
        while True:
            await self._due.wait()
            await asyncio.sleep(self._pace.gather_seconds)
            self._due.clear()
            self._report_status()
            if not (self.leads and self._slices.listed and self._snapshot().known):
                continue  # a change of any of these wakes us again
            try:
                await self._write()
            except SourceError as error:
                await self._failed(error)
            except Exception as error:  # the top of a loop that must outlive its bugs
                logger.exception("publishing has failed unexpectedly")
                await self._failed(SourceError(f"unexpected: {error!r}"))
            else:
                self._failures = 0
                self._errors.pop("slices", None)
            self._report_status()
            await asyncio.sleep(self._pace.rest_seconds)

    async def _write(self) -> None:
        """One round. A slice that changed meanwhile is read again and left to the next round."""
        slices = self._slices
        if not self._service_checked:
            await self._check_service()  # before the first write: else all would be written again with the owner
            self._service_checked = True
        self._refresh_wanted()
        step = next_step(self._wanted, slices.current.values(), self._publication, slices.taken)
        refused: SourceError | None = None
        for one, change in [(one, slices.put) for one in step.put] + [(one, slices.delete) for one in step.delete]:
            if not self.leads:
                return
            try:
                await change(one)
            except KubeApiError as error:
                refused = await self._refused(one, error) or refused
        if refused is not None:
            raise refused
        if step.put or step.delete:
            logger.info("published", extra={
                "endpoints": slices.size, "written": len(step.put), "deleted": len(step.delete),
            })  # fmt: skip
        if not self._due.is_set():
            self._settled = True
            self._good_at = self._clock()

    async def _refused(self, one: WrittenSlice, error: KubeApiError) -> SourceError | None:
        """Go on with the other slices where only this one is at fault; its error then comes after them."""
        if error.status == 409 or (error.status == 404 and one.metadata.resource_version):
            await self._slices.reread(one.metadata.name)
            self.wake()
            return None
        if error.status in ITS_OWN_FAULT:
            return error
        raise error

    def _refresh_wanted(self) -> None:
        """Compute what is to be published, if it differs. Most snapshots differ only in what is not published."""
        endpoints = self._snapshot().endpoints
        relevant = [(one.address, one.name, one.pod_uid) for one in endpoints]
        if relevant != self._wanted_from:
            self._wanted_from, before, self._wanted = relevant, self._wanted, wanted_of(endpoints)
            for why in self._wanted.warnings.values():
                if why not in before.warnings.values():
                    logger.warning("an endpoint cannot be published", extra={"reason": why})

    async def _failed(self, error: SourceError) -> None:
        self._errors["slices"] = self._slices.described(error)
        self._failures += 1
        self._on_error()
        self._report_status()
        self.wake()
        wait = min(self._pace.first_wait_seconds * 2 ** min(self._failures - 1, 16), self._pace.longest_wait_seconds)
        asked = error.retry_seconds if isinstance(error, KubeApiError) else 0.0
        await asyncio.sleep(max(wait * (0.5 + self._pace.draw() / 2), asked))

    def _on_election(self) -> None:
        """After each attempt at the lease: wake the writer if it is news, and note that all is well if it is."""
        if not self.leads:
            self._errors.pop("slices", None)
        elif not self._settled:
            self._due.set()
        if self._settled if self.leads else self._leader.has_leader:
            self._good_at = self._clock()
        self._report_status()

    def _report_status(self) -> None:
        errors = [self._leader.error, self._slices.error, *self._errors.values()]
        known = self._slices.listed or any(errors)
        if known:
            self._reporter.report("; ".join(dict.fromkeys(filter(None, errors))))

    async def _check_service_regularly(self) -> None:
        """Read the Service's uid, so that the slices are deleted with it, and report what is wrong with it."""
        while True:
            problem = await self._check_service() if self.leads else ""
            if problem:
                self._errors["service"] = problem
            else:
                self._errors.pop("service", None)
            seconds = self._pace.service_seconds / (1 if self.leads and not problem else 10)
            await asyncio.sleep(seconds * (0.75 + self._pace.draw() / 2))

    async def _check_service(self) -> str:
        """The error of the Service; empty if it is right, or if it may not be read."""
        service, namespace = self._publication.service, self._publication.namespace
        try:
            raw = await self._api.get(SERVICES.item(namespace, service), {}, seconds=WRITE_SECONDS)
            found = msgspec.json.decode(raw, type=Service)
        except (SourceError, msgspec.DecodeError) as error:
            missing = isinstance(error, KubeApiError) and error.status == 404
            return f"there is no Service {service} in the namespace {namespace}" if missing else ""
        owner = Owner(service, found.metadata.uid)
        if owner != self._publication.owner:
            self._publication = replace(self._publication, owner=owner)
            self.wake()
        if found.spec.selector:
            return f"the Service {service} has a selector, so Kubernetes adds endpoints of its own: remove the selector"
        names = [port.name for port in found.spec.ports or () if port.protocol == "TCP"]
        if self._publication.port_name not in names:
            named = ", ".join(map(repr, names)) or "none"
            return f"the Service {service} has no TCP port named {self._publication.port_name!r}; it has {named}"
        return ""
