import pytest

from aibrix_extproc.simulator.faults import (
    PARAMETERS,
    Fault,
    FaultName,
    FaultPlan,
    FaultSyntaxError,
    PlannedFault,
    build_fault,
    parse_header,
    parse_plan,
)


def test_header_values_are_converted_and_the_rest_has_defaults() -> None:
    fault = parse_header(" status ; code=503; shape = C ;")
    assert fault == Fault(
        FaultName.STATUS, {"code": 503, "shape": "C", "message": "simulated failure", "retry_after": ""}
    )


@pytest.mark.parametrize("name", FaultName)
def test_every_fault_has_parameters_and_can_be_named_alone(name: FaultName) -> None:
    assert set(parse_header(name.value).values) == set(PARAMETERS[name])


@pytest.mark.parametrize(
    "text", ["", "x", "stall;seconds", "stall;second=1", "stall;seconds=nan", "sse-pieces;bytes=1.5", "crash;after=1"]
)
def test_bad_header_is_refused(text: str) -> None:
    with pytest.raises(FaultSyntaxError):
        parse_header(text)


def test_plan_takes_the_oldest_that_fits_until_it_is_used_up() -> None:
    plan = FaultPlan()
    first, second = build_fault("crash", {}), build_fault("html-502", {})
    plan.add(first, "/v1/chat", 1)
    plan.add(second)
    assert plan.take("GET", "/v1/models") is None
    assert plan.take("POST", "/v1/completions") is second
    assert plan.take("POST", "/v1/chat/completions") is first
    assert plan.take("POST", "/v1/chat/completions") is second


def test_plan_with_a_path_hits_every_method() -> None:
    plan = FaultPlan()
    plan.add(build_fault("html-502", {}), "/metrics")
    assert plan.take("GET", "/metrics") is not None


def test_plan_document_is_one_fault_or_many() -> None:
    one = {"fault": "stall", "seconds": 2, "count": 3, "path": "/v1"}
    stall = build_fault("stall", {"seconds": 2})
    assert parse_plan(one) == [PlannedFault(stall, "/v1", 3)]
    assert parse_plan([one, {"fault": "crash"}])[1] == PlannedFault(build_fault("crash", {}))
