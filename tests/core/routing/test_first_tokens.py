"""An engine's own count of first tokens tells how far it has come, long before answers end."""

import pytest

from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.predictor import Ending, Predictor

MODEL = "m"
PROMPT = RouteQuery(MODEL, body_bytes=16_000)  # 4,000 tokens


class Engine:
    """Computes prompts of 4,000 tokens one after the other, and says of itself how many it has; no answer ends."""

    def __init__(self, seconds: float, *, foreign: int = 0) -> None:
        self.seconds = seconds  # for a prompt
        self.foreign = foreign  # requests of others there
        self.predictor = Predictor()
        self.predictor.speeds.prefilled(self.predictor.engine("peer", MODEL), 16_000)
        self.predictor.engine("e", MODEL)
        self.sent = 0

    def send(self, prompts: int, now: float) -> None:
        for _ in range(prompts):
            self.sent += 1
            self.predictor.placed(f"r{self.sent}", PROMPT, "e", now)

    def read(self, now: float, *, counted: float | None = None) -> None:
        done = float(int(now / self.seconds)) if counted is None else counted
        running = float(self.sent + self.foreign)
        first_tokens = 9.0 + min(done, self.sent) if counted is None else counted
        reading = EngineGauges(at=now, own=self.sent, running=running, first_tokens=first_tokens)
        self.predictor.read("e", reading)


def test_slow_engine_is_known_by_what_it_has_not_done() -> None:
    engine = Engine(1.25)
    engine.read(0.0)
    engine.send(20, 0.0)
    assert engine.predictor.speed("e") == pytest.approx(16_000)
    for tick in range(1, 25):
        engine.read(tick / 5)
    assert engine.predictor.speed("e") == pytest.approx(3_200, rel=0.3)
    assert engine.predictor.wait("e", 4.8) == pytest.approx(20 * 1.25 - 4.8, rel=0.3)


def test_quick_engine_is_known_by_what_it_has_done() -> None:
    engine = Engine(0.0625)  # four times as quick as its peer
    engine.read(0.0)
    engine.send(60, 0.0)
    for tick in range(1, 11):
        engine.read(tick / 5)
    assert engine.predictor.speed("e") > 40_000
    assert engine.predictor.wait("e", 2.0) == pytest.approx(60 * 0.0625 - 2.0, rel=0.5)


def test_first_tokens_of_others_are_not_taken_for_ours() -> None:
    engine = Engine(0.01, foreign=50)
    engine.read(0.0)
    engine.send(20, 0.0)
    engine.read(0.2)
    assert engine.predictor.wait("e", 0.2) == pytest.approx(20 / 4 - 0.2, rel=0.01)


@pytest.mark.parametrize("counts", [(5.0, 0.0, 1.0), (3.0, 3.0, 3.0), (0.0, 1e15, 1e15)])
def test_counts_that_make_no_sense_change_little(counts: tuple[float, ...]) -> None:
    engine = Engine(0.25)
    engine.send(4, 0.0)
    for tick, counted in enumerate(counts):
        engine.read(0.1 + 0.1 * tick, counted=counted)
    assert 0.0 <= engine.predictor.wait("e", 0.3) <= 1.0


def test_requests_that_leave_or_end_are_not_waited_for() -> None:
    engine = Engine(0.25)
    engine.read(0.0)
    engine.send(6, 0.0)
    for number, ending in enumerate((Ending.LEFT, Ending.FAILED, Ending.SERVED, Ending.SERVED), 1):
        engine.predictor.finished(f"r{number}", 1.0, ending)
    assert engine.predictor.engine("e", MODEL).reached >= 3
    engine.read(30.0, counted=0.0)  # it counts nothing, as one that computes embeddings
    engine.predictor.finished("r6", 31.0)
    engine.read(32.0, counted=0.0)
    assert engine.predictor.wait("e", 32.0) == 0.0


def test_engines_that_serve_adapters_are_compared_by_their_base_model() -> None:
    predictor = Predictor()
    first, second = predictor.engine("e1", MODEL), predictor.engine("e2", MODEL)
    predictor.speeds.prefilled(first, 20_000)
    predictor.placed("r", RouteQuery("adapter", body_bytes=100), "e2", 0.0)
    assert predictor.speed("e2") == pytest.approx(20_000)
    assert second.group == MODEL
