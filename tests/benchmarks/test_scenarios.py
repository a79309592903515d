import pytest

from benchmarks.scenarios import SCENARIOS, Scenario

ALL = [pytest.param(scenario, id=key) for key, scenario in SCENARIOS.items()]


@pytest.mark.parametrize("scenario", ALL)
@pytest.mark.parametrize("quick", [True, False])
def test_scenario_that_sends_anything_uses_every_connection(scenario: Scenario, quick: bool) -> None:
    if scenario.requests:
        assert scenario.sample_size(quick) >= scenario.connections


@pytest.mark.parametrize("scenario", ALL)
def test_scenario_that_streams_expects_its_chunks_and_the_end(scenario: Scenario) -> None:
    assert scenario.expected_events == (scenario.chunks + 1 if scenario.chunks else 0)
    assert scenario.reply.startswith("stream") is bool(scenario.chunks)


def test_quick_sample_is_smaller_but_never_leaves_a_connection_idle() -> None:
    scenario = Scenario("s", "s", connections=16, requests=32)
    assert (scenario.sample_size(True), scenario.sample_size(False)) == (16, 32)
