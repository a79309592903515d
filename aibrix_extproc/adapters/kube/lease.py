"""Leadership by a Lease of coordination.k8s.io: of all replicas, the one that holds it may write.

Wall clocks are not compared: each replica measures how long the holder has been silent, from when it saw the last
renewal. A holder that could not renew in time stops before others may take over.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from aibrix_extproc.adapters.kube.api import KubeApi
from aibrix_extproc.adapters.kube.errors import KubeApiError, KubeUnreachable
from aibrix_extproc.adapters.kube.resources import LEASES
from aibrix_extproc.config_files.errors import SourceError

logger = logging.getLogger(__name__)

Tree = dict[str, Any]
LEASE_VERBS: Final = ("get", "create", "update")
LONGEST_SECONDS: Final = 600  # what another holder may claim


@dataclass(frozen=True, slots=True)
class LeasePace:
    """Times of the election: after an orderly end another leads in two seconds, after a kill in eleven at most.

    client-go's controllers take 15, 10 and 2 s. We go below them only as far as an API server allows that is slow for
    some seconds, for example while etcd elects a leader: a holder misses two renewals without losing the lease, and
    a write that it began just before it gave up (3 s at most) ends before others may begin theirs. Shorter times would
    not help: pods are published when they have an address, and an engine takes longer than this to load.
    """

    duration_seconds: int = 9  # a holder that is silent for so long has lost it
    give_up_seconds: float = 6.0  # a holder that could not renew for so long does not write any more
    retry_seconds: float = 1.5  # between two renewals, and between two attempts of the others
    request_seconds: float = 3.0
    draw: Callable[[], float] = random.random


DEFAULT_LEASE_PACE: Final = LeasePace()


class Election:
    """One replica's part in the election."""

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        name: str,
        identity: str,
        *,
        pace: LeasePace = DEFAULT_LEASE_PACE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._subscribers: list[Callable[[], None]] = []
        self._pace = pace
        self._clock = clock
        self._lease: Tree | None = None  # as it was last read or written
        self._seen: Tree = {}  # its spec, and since when it is like that
        self._seen_at = clock()
        self._until = clock()
        self._led = False  # after the last attempt, for the log
        self.error = ""  # why the last attempt has failed, for the operator

    @property
    def leads(self) -> bool:
        """Whether we may write at this moment."""
        return self._clock() < self._until

    @property
    def leader(self) -> str:
        """The identity of the leader, as last read; empty if there is none."""
        return str(self._seen.get("holderIdentity") or "")

    @property
    def has_leader(self) -> bool:
        """Whether there is a leader that is not overdue."""
        return self.leads or (bool(self.leader) and not self._overdue())

    def subscribe(self, on_attempt: Callable[[], None]) -> None:
        """Call `on_attempt` after each attempt at the lease, whether it succeeded or not. Any number may subscribe."""
        self._subscribers.append(on_attempt)

    async def run(self) -> None:
        """Try to get it and to keep it, until cancelled; then give it back."""
        try:
            while True:
                try:
                    await self._attempt()
                    self.error = ""
                except SourceError as error:
                    self.error = self._described(error)
                except Exception as error:  # the top of a loop that must outlive its bugs
                    logger.exception("an attempt at the lease has failed unexpectedly")
                    self.error = f"unexpected: {error!r}"
                self._log_change()
                self._notify()
                await asyncio.sleep(self._pace.retry_seconds * (0.75 + self._pace.draw() / 2))
        finally:
            await self._release()

    def _notify(self) -> None:
        for on_attempt in self._subscribers:
            try:
                on_attempt()
            except Exception:  # of one subscriber: the others and the lease must not suffer
                logger.exception("internal error of a subscriber to an election")

    async def _attempt(self) -> None:
        if self.leads and self._lease is not None:
            with suppress(_Conflict):
                await self._take(self._lease)
                return
        try:
            lease = _tree(await self._api.get(self._path, {}, seconds=self._pace.request_seconds))
        except KubeApiError as error:
            if error.status != 404:
                raise
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self._name}}
        self._observe(lease)
        if self.leader in ("", self._identity) or self._overdue():
            with suppress(_Conflict):
                await self._take(lease)
        else:
            self._until = self._clock()

    def _observe(self, lease: Tree) -> None:
        self._lease = lease
        spec = lease.get("spec") or {}
        if spec != self._seen:
            self._seen, self._seen_at = spec, self._clock()

    def _overdue(self) -> bool:
        claimed = self._seen.get("leaseDurationSeconds")
        duration = claimed if isinstance(claimed, int) else self._pace.duration_seconds
        return self._clock() - self._seen_at > min(max(duration, 1), LONGEST_SECONDS)

    async def _take(self, lease: Tree) -> None:
        """Write our identity into the lease. Raises _Conflict if another replica has written it since we read it."""
        sent_at, wall_now = self._clock(), _wall_now()
        before = lease.get("spec") or {}
        ours = before.get("holderIdentity") == self._identity
        transitions = int(before.get("leaseTransitions") or 0)
        spec = {
            **before,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._pace.duration_seconds,
            "acquireTime": before.get("acquireTime") if ours else wall_now,
            "renewTime": wall_now,
            "leaseTransitions": transitions if ours or not before else transitions + 1,
        }
        self._observe(await self._write(lease | {"spec": spec}))
        self._until = sent_at + self._pace.give_up_seconds

    async def _write(self, lease: Tree) -> Tree:
        new = "resourceVersion" not in lease["metadata"]
        method, path = ("POST", LEASES.path(self._namespace)) if new else ("PUT", self._path)
        try:
            return _tree(await self._api.write(method, path, lease, seconds=self._pace.request_seconds))
        except KubeApiError as error:
            if error.status in (404, 409) and not (new and error.status == 404):
                self._lease = None
                raise _Conflict from error
            raise

    async def _release(self) -> None:
        if not self.leads or self._lease is None:
            return
        self._until = self._clock()
        try:
            try:
                await self._give_back(self._lease)
            except _Conflict:  # by another, or by a renewal of ours whose answer we did not wait for
                lease = _tree(await self._api.get(self._path, {}, seconds=self._pace.request_seconds))
                if (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                    await self._give_back(lease)
        except (SourceError, _Conflict) as error:
            logger.warning("the lease was not given back, it runs out", extra={"error": repr(error)})

    async def _give_back(self, lease: Tree) -> None:
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _wall_now()}
        await self._write(lease | {"spec": lease["spec"] | spec})

    def _log_change(self) -> None:
        if self.leads != self._led:
            self._led = self.leads
            logger.info("leads" if self._led else "leads no more", extra={"lease": self._name, "holder": self.leader})

    @property
    def _path(self) -> str:
        return LEASES.item(self._namespace, self._name)

    def _described(self, error: SourceError) -> str:
        if isinstance(error, KubeApiError) and error.status == 403:
            return f"leases: not allowed; {LEASES.rule(self._namespace, LEASE_VERBS)} ({error})"
        return f"the lease {self._name}: {error}"


class _Conflict(Exception):
    """Another replica has written the lease since we read it; never leaves this module."""


def _tree(raw: bytes) -> Tree:
    try:
        return msgspec.json.decode(raw, type=Tree)
    except msgspec.DecodeError as error:
        raise KubeUnreachable(f"the API server's answer cannot be read: {error}") from error


def _wall_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
