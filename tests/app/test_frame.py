"""How parts run in a process, and what the readiness page makes of their reports."""

import asyncio
from collections.abc import Iterator

import pytest

from aibrix_extproc.app.frame import Frame
from aibrix_extproc.app.metadata.batch_worker import BatchWorker
from aibrix_extproc.app.metadata.secrets import SharedSecrets
from aibrix_extproc.app.metadata.state_check import StorageCheck
from aibrix_extproc.app.metadata.sweeping import Sweeper
from aibrix_extproc.app.parts.bodies import LargeBodies
from aibrix_extproc.app.parts.certificate import CertificateStore
from aibrix_extproc.app.parts.cluster import Cluster
from aibrix_extproc.app.parts.configs import ConfigLog
from aibrix_extproc.app.parts.engines import Engines
from aibrix_extproc.app.parts.keys import KeyStore
from aibrix_extproc.app.parts.leadership import Leadership
from aibrix_extproc.app.parts.loop import LoopWatch
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.app.parts.publishing import Publishing
from aibrix_extproc.app.parts.seals import NoteSeals
from aibrix_extproc.app.parts.sources import Sources
from aibrix_extproc.app.report import health_page


class Recorded(Part):
    """A part that writes down what happens to it."""

    def __init__(self, name: str, story: list[str], *, early: bool = False, known: bool = True) -> None:
        self._name = name
        self._story = story
        self._early = early
        self._known = asyncio.Event()
        self.is_degraded = False
        if known:
            self._known.set()

    @property
    def name(self) -> str:
        return self._name

    @property
    def ends_before_drain(self) -> bool:
        return self._early

    @property
    def known(self) -> bool:
        return self._known.is_set()

    @property
    def degraded(self) -> bool:
        return self.is_degraded

    async def wait_known(self) -> None:
        await self._known.wait()

    def learn(self) -> None:
        self._known.set()

    async def run(self) -> None:
        self._story.append(f"{self._name} runs")
        try:
            await asyncio.Event().wait()
        finally:
            self._story.append(f"{self._name} ends")

    def report(self) -> str:
        return "fine"


class Silent(Part):
    """A part with everything as it is where a part does not say otherwise."""

    name = "silent"


async def test_parts_run_until_the_drain_is_over_and_some_end_before_it() -> None:
    story: list[str] = []
    stop = asyncio.Event()
    frame = Frame((Recorded("leader", story, early=True), Recorded("poller", story), Silent()))

    async def on_known() -> None:
        story.append("ready")
        stop.set()

    async def drain() -> None:
        await asyncio.sleep(0)  # a turn of the loop, for the parts that end
        story.append("drained")

    await frame.run(stop, on_known=on_known, drain=drain)
    assert story == ["leader runs", "poller runs", "ready", "leader ends", "drained", "poller ends"]
    assert frame.draining


async def test_process_is_ready_once_all_parts_are_known_and_never_after_the_stop() -> None:
    story: list[str] = []
    stop = asyncio.Event()
    keys, engines = (Recorded(name, story, known=False) for name in ("keys", "engines"))
    frame = Frame((keys, engines))

    async def on_known() -> None:
        story.append("ready")

    async def drain() -> None:
        engines.learn()
        await asyncio.sleep(0)

    running = asyncio.ensure_future(frame.run(stop, on_known=on_known, drain=drain))
    await asyncio.sleep(0)
    assert health_page(frame, {})[0] is False
    keys.learn()
    await asyncio.sleep(0)
    assert health_page(frame, {})[0] is False
    stop.set()
    await running
    assert "ready" not in story
    assert health_page(frame, {})[0] is False


async def test_failure_of_a_part_ends_the_process() -> None:
    class Broken(Part):
        name = "broken"

        async def run(self) -> None:
            raise RuntimeError("a bug")

    story: list[str] = []
    with pytest.raises(ExceptionGroup) as caught:
        await Frame((Recorded("other", story), Broken())).run(asyncio.Event())
    assert caught.group_contains(RuntimeError, match="a bug")
    assert story[-1] == "other ends"


async def test_page_has_the_process_and_each_report_by_the_name_of_its_part() -> None:
    keys = Recorded("keys", [])
    frame = Frame((keys, Silent()))
    assert health_page(frame, {"streams": 3}) == (
        True,
        {"ready": True, "draining": False, "degraded": False, "streams": 3, "keys": "fine"},
    )
    keys.is_degraded = True
    ready, page = health_page(frame, {})
    assert (ready, page["degraded"]) == (True, True)


def names() -> Iterator[str]:
    for part in (
        Sources, Cluster, Engines, KeyStore, CertificateStore, NoteSeals, ConfigLog, Publishing, Leadership,
        LargeBodies, LoopWatch, SharedSecrets, BatchWorker, Sweeper,
    ):  # fmt: skip
        yield str(part.name)
    yield from (StorageCheck(name, Silent().run).name for name in ("database", "blobs"))


def test_no_part_writes_over_the_entry_of_another_or_of_the_process() -> None:
    taken = [*names(), "ready", "draining", "degraded", "streams", "fleet_known", "role"]
    assert len(set(taken)) == len(taken)
