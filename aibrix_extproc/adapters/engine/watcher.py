"""Watches one endpoint: looks at it again and again, and says what changed.

A refusal or a reset is believed at once. A poll that times out is no refusal: a ready engine may miss several, answers
to clients are taken as proof that it lives, and what stays silent is silent (a health of its own), not away. The looks
at such an engine get more time, so that one that is only slow is found to be well.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from aibrix_extproc.adapters.engine.client import EngineClient
from aibrix_extproc.adapters.engine.errors import EngineError, EngineListUnusable, EngineTimeout
from aibrix_extproc.adapters.engine.probe import EngineProbe
from aibrix_extproc.core.fleet.model import Endpoint, Health, ServedModel
from aibrix_extproc.core.fleet.reduce import Observed

BEATS: Final = 10  # per interval, of a small fleet; more would wake the process more often

_GROWTH: Final = 2.0  # of the time that the looks at a silent engine get
_LONGEST_STREAK: Final = 16  # of missed looks, so that the time cannot overflow


@dataclass(frozen=True, slots=True)
class PollPace:
    """Times of polls, and the number of engines that are polled at once."""

    interval_seconds: float = 2.0
    retry_seconds: float = 0.2  # the first retry of an engine that is not ready; grows to the interval
    retry_growth: float = 1.5
    timeout_seconds: float = 2.0  # for each request
    longest_timeout_seconds: float = 16.0  # for each request to an engine that is slow or silent
    patience: int = 4  # looks that a slow engine may miss; one that refuses or resets is believed at once
    life_seconds: float = 10.0  # so long an answer to a client counts for more than a missed look
    rest_seconds: float = 0.4  # between questions for sleep or pause, where an engine has the routes
    steady_looks: int = 15  # in a row that found an engine well and nothing new: then it may be asked less often
    looks_per_second: float = 80.0  # at all steady engines together; about 5 % of a core
    longest_seconds: float = 30.0  # between two looks at a steady engine, in however large a fleet
    soon_seconds: float = 0.5  # at least, between two looks, whatever speaks for another one
    concurrency: int = 64
    jitter: float = 0.25  # part of the wait, taken off it, so that looks do not fall into step

    @property
    def news_seconds(self) -> float:
        """The longest until a ready engine that answers is asked again for what it serves: with every other look.

        In a fleet of more engines than `looks_per_second` covers in an interval it takes longer.
        """
        return 2 * self.interval_seconds * (1 + 1 / BEATS)


class Traffic(Protocol):
    """Evidence about engines from the exchanges with them."""

    def silence_seconds(self, address: str) -> float:
        """Since an engine last answered a client; infinite if it never has."""

    def engine_asleep(self, identity: str, awake_at: float) -> None:
        """An engine was found asleep or paused. At `awake_at` (of the clock of exchanges) it still worked."""


class Looks(Protocol):
    """The state that all watchers share."""

    pace: PollPace
    slots: asyncio.Semaphore  # for looks
    patient_slots: asyncio.Semaphore  # for those that may take long

    def jittered(self, wait: float) -> float:
        """The wait, a little shorter."""

    def to_a_beat(self, wait: float) -> float:
        """The wait, to the next beat."""

    def steady_seconds(self) -> float:
        """Between two looks at an engine that has been well for long."""

    def rest_seconds(self) -> float:
        """Between two questions for sleep or pause."""


@dataclass(slots=True)
class Target:
    """What of an endpoint makes a difference for asking it; a change of address or key starts anew."""

    identity: str
    address: str
    api_key: str | None = field(repr=False)
    given: tuple[ServedModel, ...]  # the names that its source gives
    has_news: bool = False  # whether they changed, so that the engine's next list is told even if it is the same

    def give(self, models: tuple[ServedModel, ...]) -> None:
        """Take in the names that the source gives now."""
        if models != self.given:
            self.given, self.has_news = models, True

    def is_of(self, endpoint: Endpoint) -> bool:
        """Whether the endpoint of this identity is asked as before."""
        return self.address == endpoint.address and self.api_key == endpoint.api_key


class Watcher:
    """The watch over one engine."""

    def __init__(
        self,
        target: Target,
        client: EngineClient,
        probe: EngineProbe,
        looks: Looks,
        emit: Callable[[Observed], None],
        traffic: Traffic,
        clock: Callable[[], float],
    ) -> None:
        self._target = target
        self._client = client
        self._probe = probe
        self._looks = looks
        self._emit = emit
        self._traffic = traffic
        self._clock = clock
        self._told: Observed | None = None
        self._missed = 0  # looks in a row
        self._steady = 0  # looks in a row that brought nothing new
        self._took = 0.0  # seconds of the last look that was answered
        self._retry_seconds = looks.pace.retry_seconds
        self._awake_at = self._looked_at = float("-inf")
        self._soon = asyncio.Event()
        self._at_once = False  # whether the next look must not wait for the pace

    def look_soon(self) -> None:
        """Polls without waiting for the next time, because something speaks for it."""
        self._soon.set()

    def renew(self) -> None:
        """The engine serves something else now, or sleeps, or woke: look for it without waiting for its time."""
        self._probe.list_next()
        self._at_once = True
        self._soon.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            seen = await self._look()
            if seen is not None:
                self._tell(seen)
            await self._pause(is_well=seen is not None and seen.health is Health.READY)

    def _tell(self, seen: Observed) -> None:
        target = self._target
        self._steady = self._steady + 1 if seen == self._told else 0
        if seen != self._told or (target.has_news and self._probe.listed):
            target.has_news = target.has_news and not self._probe.listed
            self._emit(seen)
            self._told = seen
        if seen.health is Health.ASLEEP:
            self._traffic.engine_asleep(self._target.identity, self._awake_at)

    async def _look(self) -> Observed | None:
        """One look. None: it brought nothing that would change what was told."""
        self._soon.clear()
        self._at_once = False
        pace = self._looks.pace
        seconds = self._allowed_seconds()
        self._client.allow(seconds)
        async with self._looks.patient_slots if seconds > pace.timeout_seconds else self._looks.slots:
            started = self._looked_at = self._clock()
            try:
                seen = await self._probe.look()
            except EngineTimeout as error:
                self._missed = min(self._missed + 1, _LONGEST_STREAK)
                return self._after_silence(error)
            except EngineError as error:
                self._missed, self._took = 0, 0.0
                return (
                    self._after_nonsense(error) if isinstance(error, EngineListUnusable) else self._probe.failed(error)
                )
        self._missed, self._took = 0, self._clock() - started
        if seen.health is Health.READY:
            self._awake_at = started
        return seen

    def _allowed_seconds(self) -> float:
        """More than usual for an engine that answers slowly, or that is given up as silent."""
        pace = self._looks.pace
        over = self._missed - (pace.patience if self._is_told(Health.READY) else 0)
        seconds = max(pace.timeout_seconds * _GROWTH ** max(over, 0), _GROWTH * self._took)
        return min(seconds, max(pace.longest_timeout_seconds, pace.timeout_seconds))

    def _after_silence(self, error: EngineTimeout) -> Observed | None:
        if self._is_told(Health.ASLEEP):
            return None
        if not self._is_told(Health.READY, Health.SILENT):
            return self._probe.failed(error)
        if self._traffic.silence_seconds(self._target.address) < self._looks.pace.life_seconds:
            return None if self._is_told(Health.READY) else self._probe.alive()
        if self._is_told(Health.READY) and self._missed <= self._looks.pace.patience:
            return None
        return self._probe.silent(error)

    def _after_nonsense(self, error: EngineListUnusable) -> Observed | None:
        """Without a list, what was listed last stays while answers to clients prove that the engine serves."""
        serves = self._traffic.silence_seconds(self._target.address) < self._looks.pace.life_seconds
        if serves and self._is_told(Health.READY, Health.SILENT):
            return None if self._is_told(Health.READY) else self._probe.alive()
        return self._probe.failed(error)

    def _is_told(self, *healths: Health) -> bool:
        return self._told is not None and self._told.health in healths

    async def _pause(self, *, is_well: bool) -> None:
        looks = self._looks
        if is_well:
            self._retry_seconds = looks.pace.retry_seconds
            await self._watch_for_rest(looks.to_a_beat(looks.jittered(self._well_seconds())))
            return
        wait = min(self._retry_seconds, looks.pace.interval_seconds)
        self._retry_seconds = wait * looks.pace.retry_growth
        if self._is_told(Health.ASLEEP):
            wait = min(wait, looks.rest_seconds())
        await self._idle(looks.jittered(wait))

    def _well_seconds(self) -> float:
        """Until the next look at an engine that is well.

        The answers to clients prove as much as its health check, which is left out then: its list is asked for next.
        """
        looks = self._looks
        seconds = looks.steady_seconds() if self._steady >= looks.pace.steady_looks else looks.pace.interval_seconds
        answers = self._traffic.silence_seconds(self._target.address) < looks.pace.interval_seconds
        if answers and self._probe.listed and not self._probe.may_rest:
            self._probe.leave_out_health()
            return 2 * seconds
        return seconds

    async def _watch_for_rest(self, seconds: float) -> None:
        """Wait for the next look. Until then, an engine that can be put to rest is asked whether it was."""
        ends_at = self._clock() + seconds
        while (left := ends_at - self._clock()) > 0:
            step = self._looks.rest_seconds()
            if step >= left or not self._probe.may_rest:
                await self._idle(left)
                return
            if await self._idle(step):
                return
            started = self._clock()
            async with self._looks.slots:
                try:
                    resting = await self._probe.look_for_rest()
                except EngineError:
                    return  # the next look will tell
            if resting is not None:
                self._tell(resting)
                return
            self._awake_at = started

    async def _idle(self, seconds: float) -> bool:
        """Wait so long, or until `look_soon`; then true."""
        try:
            async with asyncio.timeout(seconds):
                await self._soon.wait()
        except TimeoutError:
            return False
        # An overloaded engine has many requests moved away from it: each asks for a look.
        if not self._at_once:
            await asyncio.sleep(self._looked_at + self._looks.pace.soon_seconds - self._clock())
        return True
