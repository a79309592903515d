"""Every row of the error table, shaped: four keys, no number as a code, retry headers that SDKs obey."""

import importlib
import json
import pkgutil
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.openai.contract import rows
from aibrix_extproc.core.openai.contract.errors import (
    ERRORS,
    RETRY_AFTER_MAX_SECONDS,
    RETRY_AFTER_MIN_SECONDS,
    Problem,
    masked,
    shape,
)

# What clients are known to search for in a message.
SEARCHED = {
    "model_not_found": "does not exist",
    "model_not_found_retrieve": "does not exist",
    "invalid_api_key": "Incorrect API key",
    "expired_api_key": "Incorrect API key",
    "missing_model": "you must provide a model parameter",
}
SDK_RETRIES = (408, 409, 429)  # and 5xx


def fields_of(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def example(key: str, **changes: Any) -> Problem:
    values = {name: f"<{name}>" for name in fields_of(ERRORS[key].message)}
    return Problem(key, values, **changes)


def error_of(problem: Problem) -> dict[str, Any]:
    body = json.loads(shape(problem).body)
    assert set(body) == {"error"}
    error = body["error"]
    assert isinstance(error, dict)
    return error


@pytest.mark.parametrize("key", ERRORS)
def test_row_is_shaped_with_all_four_keys_and_its_values(key: str) -> None:
    shaped = shape(example(key))
    error = error_of(example(key))
    assert list(error) == ["message", "type", "param", "code"]
    assert all(error[name] is None or isinstance(error[name], str) for name in ("param", "code"))
    assert isinstance(error["type"], str)
    assert error["message"]
    assert all(f"<{name}>" in error["message"] for name in fields_of(ERRORS[key].message))
    assert shaped.status == ERRORS[key].status
    assert dict(shaped.headers)["content-type"] == "application/json"
    assert len(dict(shaped.headers)) == len(shaped.headers)


@pytest.mark.parametrize("key", ERRORS)
def test_row_is_a_sound_row(key: str) -> None:
    row = ERRORS[key]
    assert 400 <= row.status <= 599
    assert row.code is None or not row.code.isdigit()
    assert row.when
    assert not row.when.endswith(".")
    assert all(name.isidentifier() for name in fields_of(row.message)), "only named fields, without attributes"
    if row.retry_after_seconds is not None:
        assert RETRY_AFTER_MIN_SECONDS <= row.retry_after_seconds <= RETRY_AFTER_MAX_SECONDS
        assert row.status in (429, 503) or row.status >= 500
    assert row.type != "server_error" or row.status in (413, *range(500, 600)), "blames us for the client's fault"


@pytest.mark.parametrize(
    "key", [key for key, row in ERRORS.items() if row.status in (429, 503) and row.should_retry is not False]
)
def test_refusal_that_passes_says_when_to_come_back(key: str) -> None:
    seconds = dict(shape(example(key)).headers)["retry-after"]
    assert 1 <= int(seconds) <= 60


def test_retry_bounds_are_what_every_sdk_honours() -> None:
    assert (RETRY_AFTER_MIN_SECONDS, RETRY_AFTER_MAX_SECONDS) == (1, 60)


def test_conflict_is_not_retried_by_sdks_that_would() -> None:
    rows = [key for key, row in ERRORS.items() if row.status in SDK_RETRIES and row.status != 429]
    for key in rows:
        assert dict(shape(example(key)).headers)["x-should-retry"] == "false"


@pytest.mark.parametrize(("key", "words"), SEARCHED.items())
def test_words_that_clients_search_for_are_kept(key: str, words: str) -> None:
    assert words in error_of(example(key))["message"]


def test_problem_overrides_its_row() -> None:
    problem = example("bad_request", param="messages", code="too_odd", status=413, headers=(("retry-after", "7"),))
    error = error_of(problem)
    assert (error["param"], error["code"]) == ("messages", "too_odd")
    assert shape(problem).status == 413
    assert ("retry-after", "7") in shape(problem).headers


def test_headers_of_a_problem_win_over_those_of_its_row() -> None:
    given = shape(Problem("overloaded", headers=(("retry-after", "9"),))).headers
    assert [value for name, value in given if name == "retry-after"] == ["9"]


@given(st.text() | st.text("{}%\\\"'\n\x00", max_size=8))
def test_any_words_of_a_client_come_back_as_they_are(text: str) -> None:
    message = error_of(Problem("bad_request", {"message": text}))["message"]
    assert message == text.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("text", ["{message}", "{0}", "{", "}", "{message.__class__}", "%s", "\ud800"])
def test_words_that_look_like_a_template_are_only_words(text: str) -> None:
    assert error_of(Problem("not_found", {"message": text}))["message"] == text.replace("\ud800", "?")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("", "***"),
        ("short", "***"),
        ("x" * 15, "***"),
        ("sk-abcdefghijklmnopqrstuvwxyz", "sk-***wxyz"),
    ],
)
def test_key_is_shown_only_in_part(key: str, expected: str) -> None:
    assert masked(key) == expected


@given(st.text(min_size=1, max_size=80))
def test_masked_key_never_holds_most_of_the_key(key: str) -> None:
    assert len(masked(key)) <= 10
    assert key not in masked(key) or set(key) == {"*"}


@pytest.mark.parametrize("key", sorted(ERRORS))
def test_row_is_described(key: str) -> None:
    assert ERRORS[key].when, "say when clients see it: `when` of its row in core/openai/contract/rows/errors_*.py"
    assert not ERRORS[key].when.endswith("."), "it stands in a cell of a table"


def test_key_has_one_row() -> None:
    names = [module.name for module in pkgutil.iter_modules(rows.__path__) if module.name.startswith("errors_")]
    tables = [importlib.import_module(f"{rows.__name__}.{name}") for name in names]
    assert sum(len(table.ROWS) for table in tables) == len(ERRORS)
