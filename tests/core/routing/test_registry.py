"""The registry is complete and each row can fill its place in the reference."""

import importlib
import pkgutil

import pytest

from aibrix_extproc.core.routing import scorers
from aibrix_extproc.core.routing.registry import DEFAULT_STRATEGY, NOT_HERE, STRATEGIES


def test_registry_lists_every_strategy_module() -> None:
    modules = [module.name for module in pkgutil.iter_modules(scorers.__path__)]
    specs = {importlib.import_module(f"{scorers.__name__}.{module}").SPEC.name for module in modules}
    assert specs == set(STRATEGIES)
    assert len(modules) == len(STRATEGIES)


def test_registry_names_are_those_of_the_contract() -> None:
    assert set(STRATEGIES) == {
        "balanced", "least-busy-time", "least-gpu-cache", "least-kv-cache", "least-latency", "least-request",
        "least-utilization", "load-balance", "lora-affinity", "pd", "power-of-two", "predicted", "prefix-cache",
        "random", "round-robin", "session-affinity", "throughput", "vtc-basic",
    }  # fmt: skip
    assert DEFAULT_STRATEGY == "predicted"


def test_names_that_are_not_here_have_a_nearest_one_that_is() -> None:
    assert STRATEGIES.keys().isdisjoint(NOT_HERE)
    assert set(NOT_HERE.values()) <= set(STRATEGIES)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_strategy_reference_says_when_to_use_it_and_its_limits(name: str) -> None:
    strategy = STRATEGIES[name]
    assert "Use it" in strategy.reference
    assert "Limits:" in strategy.reference
    assert strategy.spec.intent.endswith(".")
    assert strategy.spec.needs
