"""Runs of several strategies on one trace, by the names that users write."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from aibrix_extproc.core.routing.mix import InvalidMix, parse_mix
from aibrix_extproc.replay.engine_model import EngineShape
from aibrix_extproc.replay.figures import Figures, figures
from aibrix_extproc.replay.ours import Network, OurRouter
from aibrix_extproc.replay.peers import PEERS, PeerRouter
from aibrix_extproc.replay.simulation import Fleet, Outcome, RouterOf, simulate
from aibrix_extproc.replay.trace import Trace


@dataclass(frozen=True, slots=True)
class Setting:
    """What serves the trace. `slow`: how many times slower an engine is, by its number."""

    engines: int = 8
    shape: EngineShape = field(default_factory=EngineShape)
    slow: tuple[tuple[int, float], ...] = ()
    late: tuple[tuple[int, EngineShape], ...] = ()  # engines that join later, by their numbers
    gateways: int = 1
    share_seconds: float | None = None  # after which gateways know what the others did; None: never
    seed: int = 0
    batching: bool = True
    skip: int = 0  # first requests that the figures leave out

    def fleet(self, block_tokens: int) -> Fleet:
        """The engines."""
        shapes = [self.shape] * self.engines
        for number, factor in self.slow:
            shapes[number] = self.shape.slower(factor)
        for number, shape in self.late:
            shapes[number] = shape
        return Fleet(tuple(shapes), block_tokens, self.batching)

    def with_engines(self, engines: int) -> "Setting":
        """The same with another number of engines."""
        return replace(self, engines=engines, slow=tuple(one for one in self.slow if one[0] < engines))


def router_of(strategy: str, share_seconds: float | None = None) -> RouterOf:
    """For one run: a strategy of ours or a mix of them, else one of PEERS.

    Raises InvalidMix for a name that is neither.
    """
    try:
        return partial(OurRouter, parse_mix(strategy), Network(share_seconds))
    except InvalidMix:
        choice = PEERS.get(strategy.strip().lower())
        if choice is None:
            raise
        return partial(PeerRouter, choice)


def compared(
    trace: Trace, strategies: Sequence[str], setting: Setting, on_progress: Callable[[int], None] = lambda _: None
) -> list[tuple[Figures, Outcome]]:
    """The figures and the outcome of each strategy."""
    fleet = setting.fleet(trace.block_tokens)
    found = []
    for name in strategies:
        outcome = simulate(
            trace,
            fleet,
            router_of(name, setting.share_seconds),
            seed=setting.seed,
            gateways=setting.gateways,
            on_progress=on_progress,
        )
        found.append((figures(name, outcome, setting.engines, setting.gateways, setting.skip), outcome))
    return found
