"""Answers of several engines become one only if they say the same."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.openai.contract.errors import Problem, shape
from aibrix_extproc.core.operations.agreement import (
    MAX_RESULTS,
    MAX_SHOWN,
    EngineAnswer,
    agreed,
    shown_body,
    wants_again,
)
from aibrix_extproc.core.operations.table import ENGINE_OPERATIONS, ROWS

LOAD = ENGINE_OPERATIONS["load_lora_adapter"]
LOADED = b"Success: LoRA adapter 'sql' added successfully."
DUPLICATE = b'{"error":{"message":"has already been loaded","type":"InvalidUserInput","param":null,"code":400}}'


def answer(number: int, status: int = 200, body: bytes = LOADED, **more: Any) -> EngineAnswer:
    return EngineAnswer(f"10.0.0.{number}:8000", status, "", body, 0.01, **more)


def error_of(found: EngineAnswer | Problem) -> tuple[int, dict[str, Any]]:
    assert isinstance(found, Problem)
    shaped = shape(found)
    return shaped.status, json.loads(shaped.body)["error"]


@pytest.mark.parametrize(("status", "body"), [(200, LOADED), (400, DUPLICATE), (500, b"<html>"), (200, b"")])
def test_one_engines_answer_passes_as_it_is(status: int, body: bytes) -> None:
    given = EngineAnswer("10.0.0.1:8000", status, "text/x", body)
    assert agreed(LOAD, [given]) is given


@pytest.mark.parametrize(("status", "body"), [(200, LOADED), (400, DUPLICATE), (200, b"")])
def test_answers_that_are_equal_are_the_answer(status: int, body: bytes) -> None:
    found = agreed(LOAD, [answer(number, status, body) for number in (1, 2, 3)])
    assert isinstance(found, EngineAnswer)
    assert (found.status, found.body) == (status, body)


def test_engine_that_was_left_out_agrees_with_a_success() -> None:
    found = agreed(LOAD, [answer(1), EngineAnswer("10.0.0.2:8000", skipped="it has the adapter")])
    assert isinstance(found, EngineAnswer)
    assert (found.status, found.body) == (200, LOADED)


def test_engine_that_was_left_out_and_a_failure_are_a_partial_failure() -> None:
    status, error = error_of(agreed(LOAD, [answer(1, 404, b"{}"), EngineAnswer("10.0.0.2:8000", skipped="has it")]))
    assert (status, error["code"]) == (502, "partial_failure")
    assert [one["result"] for one in error["endpoints"]] == ["failed", "skipped"]


def test_failure_of_some_names_each_engine_failures_first() -> None:
    answers = [answer(1), answer(2, 404, DUPLICATE), answer(3, 0, b"", failure="no answer within 5 s")]
    status, error = error_of(agreed(LOAD, answers))
    assert (status, error["code"], error["type"]) == (502, "partial_failure", "server_error")
    assert error["message"].startswith("/v1/load_lora_adapter failed on 2 of 3 engines")
    assert error["endpoints"] == [
        {"endpoint": "10.0.0.2:8000", "result": "failed", "status": 404, "answer": json.loads(DUPLICATE)},
        {"endpoint": "10.0.0.3:8000", "result": "failed", "detail": "no answer within 5 s"},
        {"endpoint": "10.0.0.1:8000", "result": "done", "status": 200, "answer": LOADED.decode()},
    ]


def test_only_engine_without_an_answer_is_a_failure_too() -> None:
    status, error = error_of(agreed(LOAD, [EngineAnswer("10.0.0.1:8000", failure="connection refused")]))
    assert (status, error["endpoints"][0]["detail"]) == (502, "connection refused")


def test_successes_that_differ_are_a_disagreement() -> None:
    versions = [answer(1, body=b'{"version":"0.32.0"}'), answer(2, body=b'{"version":"0.33.0"}')]
    status, error = error_of(agreed(ENGINE_OPERATIONS["version"], versions))
    assert (status, error["code"]) == (409, "engines_disagree")
    assert [one["answer"] for one in error["endpoints"]] == [{"version": "0.32.0"}, {"version": "0.33.0"}]


@pytest.mark.parametrize(
    ("operation", "bodies", "wanted"),
    [
        ("load", [{"server_load": 2}, {"server_load": 5}], {"server_load": 7}),
        ("abort_requests", [{"status": "aborted", "aborted": 1}, {"status": "aborted", "aborted": 0}],
         {"status": "aborted", "aborted": 1}),
        ("reset_prefix_cache", [{"success": True}, {"success": False}], {"success": False}),
        ("reset_prefix_cache", [{"success": True}, {"success": True}], {"success": True}),
    ],
)  # fmt: skip
def test_numbers_are_summed_and_successes_joined(operation: str, bodies: list[Any], wanted: Any) -> None:
    found = agreed(
        ENGINE_OPERATIONS[operation], [answer(n, body=json.dumps(one).encode()) for n, one in enumerate(bodies)]
    )
    assert isinstance(found, EngineAnswer)
    assert json.loads(found.body) == wanted


@pytest.mark.parametrize("bad", [b"[1]", b"{", b'{"server_load":"2"}', b'{"server_load":true}', b"{}", b"\xff"])
def test_garbage_is_never_summed(bad: bytes) -> None:
    status, error = error_of(
        agreed(ENGINE_OPERATIONS["load"], [answer(1, body=b'{"server_load":2}'), answer(2, body=bad)])
    )
    assert (status, error["code"]) == (409, "engines_disagree")


def test_reset_is_asked_again_only_while_blocks_are_held() -> None:
    reset = ENGINE_OPERATIONS["reset_prefix_cache"]
    assert wants_again(reset, answer(1, body=b'{"success":false}'))
    assert not wants_again(reset, answer(1, body=b'{"success":true}'))
    assert not wants_again(reset, answer(1, 500, b'{"success":false}'))
    assert not wants_again(reset, answer(1, body=b"[]"))
    assert not wants_again(LOAD, answer(1, body=b'{"success":false}'))


ANSWERS = st.builds(
    EngineAnswer,
    st.integers(1, 99).map(lambda n: f"10.0.0.{n}:8000"),
    st.sampled_from([200, 204, 400, 404, 500, 503]),
    st.just("application/json"),
    st.binary(max_size=3 * MAX_SHOWN) | st.sampled_from([LOADED, DUPLICATE, b'{"aborted":1}']),
    st.floats(0, 100),
    st.sampled_from(["", "", "", "reset"]),
    st.sampled_from(["", "", "", "has it"]),
)


@given(st.sampled_from(ROWS), st.lists(ANSWERS, min_size=1, max_size=6))
def test_success_is_said_only_if_every_engine_succeeded(row: Any, answers: list[EngineAnswer]) -> None:
    found = agreed(row, answers)
    if isinstance(found, EngineAnswer) and len(answers) > 1:
        assert found.is_good == all(one.is_good for one in answers)
    if isinstance(found, Problem):
        named = json.loads(shape(found).body)["error"]["endpoints"]
        assert sorted(one["endpoint"] for one in named) == sorted(one.address for one in answers)


def test_error_of_a_large_fleet_is_bounded() -> None:
    answers = [answer(number, 200 + number % 2 * 300, b"x" * 100_000).cut() for number in range(3000)]
    _, error = error_of(agreed(LOAD, answers))
    assert len(error["endpoints"]) == MAX_RESULTS
    assert len(json.dumps(error)) < MAX_RESULTS * (MAX_SHOWN + 200)
    assert shown_body(b"\xff" * 5000) == "\ufffd" * MAX_SHOWN + "..."
