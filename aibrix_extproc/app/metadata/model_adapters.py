"""Keeps the records of adapters as AIBrix's ModelAdapters say, and writes their status back, while we hold the lease.

Imported only where it is wanted: the client library is an extra.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from aibrix_extproc.adapters.kube.declarations import Declarations
from aibrix_extproc.adapters.kube.errors import KubeApiError
from aibrix_extproc.adapters.kube.watching import WatchPace
from aibrix_extproc.adapters.ledger.adapter_states import AdapterStates
from aibrix_extproc.adapters.ledger.control import ControlLedger, VersionConflictError
from aibrix_extproc.adapters.ledger.errors import DatabaseError
from aibrix_extproc.app.metadata.records import all_records
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.core.control.rows import Section
from aibrix_extproc.core.operations.declared import plan_records, status_of
from aibrix_extproc.core.operations.desired import DesiredAdapter
from aibrix_extproc.core.operations.placed import AdapterState
from aibrix_extproc.settings import KubernetesSettings

logger = logging.getLogger(__name__)

MAX_OVERWRITES: Final = 3  # then the status is left to the other writer
ITS_OWN_FAULT: Final = frozenset({400, 413, 422})  # of one object: the others are written all the same
MAX_WARNING_LINES: Final = 20


@dataclass(frozen=True, slots=True)
class Pace:
    """How often records and statuses are looked at; a change of an object is looked at after `gather_seconds`."""

    round_seconds: float = 2.0
    gather_seconds: float = 0.1
    writes_in_round: int = 20
    wait_seconds: float = 10.0  # after the API server or the database has failed
    watch: WatchPace | None = None


@dataclass(frozen=True, slots=True)
class _Written:
    """A status that we wrote. An older version of the kind does not keep every field."""

    given: dict[str, Any]
    kept: Any


class ModelAdapters(Part):
    """`holds`: whether this process does the work on engines. `wake`: a record has changed."""

    name = "model_adapters"

    def __init__(
        self, settings: KubernetesSettings, control: ControlLedger, states: AdapterStates,
        holds: Callable[[], bool], wake: Callable[[], None], *, pace: Pace | None = None,
    ) -> None:  # fmt: skip
        self._pace = pace or Pace()
        self._due = asyncio.Event()
        self._declarations = Declarations(settings, self._due.set, pace=self._pace.watch)
        self._control = control
        self._states = states
        self._holds = holds
        self._wake = wake
        self.remarks: Mapping[str, str] = {}  # why objects are not followed, by subject
        self._written: dict[str, _Written] = {}
        self._overwrites: Counter[str] = Counter()  # of statuses of ours, by somebody else
        self._given_up: dict[str, str] = {}  # why the status of an object is not written any more
        self._error = ""

    @property
    def degraded(self) -> bool:
        """Whether objects cannot be read, or their status cannot be written."""
        return bool(self._declarations.error or self._error)

    async def run(self) -> None:
        """Follow the objects until cancelled; the records then stay."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._declarations.run())
            group.create_task(self._keep())

    def report(self) -> Mapping[str, object]:
        """What is followed, and what is wrong with which object."""
        return {
            "objects": len(self._declarations.objects),
            "error": "; ".join(filter(None, (self._declarations.error, self._error))),
            "remarks": dict(self.remarks),
            "status_not_written": dict(self._given_up),
        }

    async def _keep(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._pace.round_seconds):
                    await self._due.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(self._pace.gather_seconds)
            self._due.clear()
            if not (self._declarations.listed and self._holds()):
                continue
            try:
                await self._put_records()
                await self._write_statuses()
                self._error = ""
            except (DatabaseError, SourceError) as error:
                told, self._error = self._error, str(error)[:300]
                if told != self._error:
                    logger.warning("ModelAdapters are not followed for now", extra={"error": self._error})
                await asyncio.sleep(self._pace.wait_seconds)

    async def _put_records(self) -> None:
        """Bring the records to what the objects say. One that others change meanwhile is left to the next round."""
        found = await all_records(self._control, Section.ADAPTERS, DesiredAdapter)
        versions = {record.name: row.version for row, record in found}
        plan = plan_records(self._declarations.objects.values(), {record.name: record for _, record in found})
        self._tell_unfit(plan.unfit)
        for record in plan.put:
            with suppress(VersionConflictError):
                version = versions.get(record.name, 0)
                await self._control.put(Section.ADAPTERS, record.name, record, expect_version=version)
        for name in plan.drop:
            with suppress(VersionConflictError):
                await self._control.delete(Section.ADAPTERS, name, expect_version=versions[name])
        if plan.put or plan.drop:
            logger.info("ModelAdapters followed", extra={"put": len(plan.put), "dropped": len(plan.drop)})
            self._wake()

    def _tell_unfit(self, unfit: Mapping[str, str]) -> None:
        fresh = [(subject, why) for subject, why in unfit.items() if self.remarks.get(subject) != why]
        for subject, why in fresh[:MAX_WARNING_LINES]:
            logger.warning("a ModelAdapter cannot be followed", extra={"object": subject, "reason": why})
        self.remarks = unfit

    async def _write_statuses(self) -> None:
        """Write the statuses that have changed, a bounded number at once. Raises SourceError."""
        objects = self._declarations.objects
        self._forget(objects.keys())
        states: dict[str, list[AdapterState]] = {}
        for state in await self._states.all() if objects else ():
            states.setdefault(state.adapter, []).append(state)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        left = self._pace.writes_in_round
        for subject in list(objects):
            one = objects.get(subject)
            if one is None:
                continue
            unfit = self.remarks.get(subject, "")
            status = status_of(one, unfit, () if unfit else states.get(one.metadata.name, ()), now)
            if status == one.status or one.metadata.deletion_timestamp is not None or not self._is_due(subject, status):
                continue
            if left == 0 or not self._holds():
                return
            left -= 1
            await self._write(subject, status)

    def _forget(self, living: Set[str]) -> None:
        known: tuple[dict[str, Any], ...] = (self._written, self._overwrites, self._given_up)
        for mapping in known:
            for subject in mapping.keys() - living:
                del mapping[subject]

    def _is_due(self, subject: str, status: dict[str, Any]) -> bool:
        """Whether to write the status. Where another controller writes it, too, two would never agree."""
        if subject in self._given_up:
            return False
        written = self._written.get(subject)
        if written is None:
            return True
        if written.kept != self._declarations.objects[subject].status:
            del self._written[subject]
            self._overwrites[subject] += 1
            if self._overwrites[subject] >= MAX_OVERWRITES:
                self._give_up(subject, "another controller writes it")
                return False
            return True
        return written.given != status

    async def _write(self, subject: str, status: dict[str, Any]) -> None:
        try:
            written = await self._declarations.write_status(subject, status)
            if written is not None:
                self._written[subject] = _Written(status, written.status)
        except KubeApiError as error:
            if error.status not in ITS_OWN_FAULT:
                raise
            self._give_up(subject, str(error))

    def _give_up(self, subject: str, why: str) -> None:
        self._given_up[subject] = why
        logger.error("the status of a ModelAdapter is not written", extra={"object": subject, "reason": why[:300]})
