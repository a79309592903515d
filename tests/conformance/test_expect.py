"""What counts as OpenAI's error."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from aibrix_extproc.conformance.case import Limited, Mismatch
from aibrix_extproc.conformance.expect import (
    COMPARED,
    NO_401,
    NO_404,
    NO_REQUEST_ID,
    NOT_OPENAI,
    expect_completion,
    expect_error,
    expect_json,
)
from aibrix_extproc.conformance.wire import Answer

ERROR: dict[str, Any] = {"message": "No.", "type": "invalid_request_error", "param": None, "code": None}
HEADERS = {"content-type": "application/json", "x-request-id": "req_1"}


def an_answer(status: int = 400, document: object = None, **headers: str) -> Answer:
    named = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps({"error": ERROR} if document is None else document).encode()
    return Answer(status, tuple((name, value) for name, value in named.items() if value), body)


def test_a_good_error_is_given_back() -> None:
    assert expect_error(an_answer(), 400, 404, code=None, param=None, contains="^no") == ERROR


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(an_answer(500), "status 400"),
     (an_answer(document={"detail": "x"}), "OpenAI's error object"),
     (an_answer(document={"error": "text"}), "OpenAI's error object"),
     (an_answer(document=[ERROR]), "OpenAI's error object"),
     (an_answer(document={"error": {"message": "No."}}), "OpenAI's error object"),
     (an_answer(document={"error": ERROR | {"message": ""}}), "a message"),
     (an_answer(document={"error": ERROR | {"type": None}}), "a type"),
     (an_answer(document={"error": ERROR | {"code": 400}}), "code as text or null"),
     (an_answer(document={"error": ERROR | {"param": 5}}), "param as text or null"),
     (an_answer(content_type="text/plain"), "content-type application/json"),
     (an_answer(x_request_id=""), "an x-request-id header"),
     (an_answer(document={"error": ERROR | {"code": "400"}}), "a word as code"),
     (an_answer(retry_after="0"), "retry-after of 1 to 60 seconds"),
     (an_answer(retry_after="120"), "retry-after of 1 to 60 seconds"),
     (an_answer(retry_after="soon"), "retry-after of 1 to 60 seconds"),
     (an_answer(x_should_retry="True"), "x-should-retry true or false"),
     (an_answer(document={"error": ERROR | {"param": "body.model"}}), "a param without 'body'"),
     (an_answer(document={"error": ERROR | {"message": "Valid aliases: x"}}), "without internals"),
     (an_answer(document={"error": ERROR | {"message": "in /usr/lib/engine/core.py"}}), "without internals")],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_wrong_with_an_error_is_named(answer: Answer, expected: str) -> None:
    with pytest.raises(Mismatch) as caught:
        expect_error(answer, 400)
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [({"code": "invalid_type"}, "code 'invalid_type'"), ({"param": "model"}, "param 'model'"),
     ({"code": None}, "code null"), ({"param": None}, "param null"),
     ({"contains": "does not exist"}, "a message that matches 'does not exist'")],
)  # fmt: skip
def test_what_the_case_wants_beyond_the_shape_is_named(wanted: dict[str, str], expected: str) -> None:
    other = an_answer(document={"error": ERROR | {"code": "other", "param": "other"}})
    with pytest.raises(Mismatch) as caught:
        expect_error(other, 400, **wanted)
    assert caught.value.expected == expected
    assert caught.value.came.startswith("400 application/json: {")


@pytest.mark.parametrize("wanted", [{"code": "invalid_type"}, {"param": "model"}])
def test_an_error_may_leave_open_what_programs_can_do_without(wanted: dict[str, str]) -> None:
    expect_error(an_answer(), 400, **wanted)


@pytest.mark.parametrize("code", COMPARED)
def test_codes_that_programs_compare_with_must_be_there(code: str) -> None:
    with pytest.raises(Mismatch, match=code):
        expect_error(an_answer(), 400, code=code)


def test_a_deployment_that_limits_requests_is_not_judged_by_that() -> None:
    with pytest.raises(Limited):
        expect_error(an_answer(429), 400)
    expect_error(an_answer(429), 429)


@pytest.mark.parametrize(
    ("call", "root"),
    [(lambda: expect_error(an_answer(x_request_id=""), 400), NO_REQUEST_ID),
     (lambda: expect_error(an_answer(document={"detail": "x"}), 400), NOT_OPENAI),
     (lambda: expect_error(Answer(400, (), b"<html>"), 400), NOT_OPENAI),
     (lambda: expect_error(an_answer(500), 401), NO_401),
     (lambda: expect_error(an_answer(400), 404, code="model_not_found"), NO_404)],
    ids=["request id", "detail", "html", "no 401", "no 404"],
)  # fmt: skip
def test_faults_that_many_cases_meet_have_one_root(call: Callable[[], object], root: str) -> None:
    with pytest.raises(Mismatch) as caught:
        call()
    assert caught.value.root == root


def test_a_repeated_header_is_a_mismatch() -> None:
    twice = Answer(200, (("x-request-id", "a"), ("x-request-id", "b")), b"{}")
    with pytest.raises(Mismatch) as caught:
        twice.header("x-request-id")
    assert caught.value.came == "2: ['a', 'b']"


def test_a_body_that_is_no_json_is_a_mismatch() -> None:
    with pytest.raises(Mismatch, match="a JSON body"):
        expect_json(Answer(200, (), b"<html>"))
    with pytest.raises(Mismatch, match="a JSON object"):
        expect_json(Answer(200, (), b"[]"))


def test_a_completion_needs_a_choice() -> None:
    good = {"object": "chat.completion", "choices": [{}]}
    assert expect_completion(an_answer(200, good)) == good
    for bad in (good | {"choices": []}, good | {"object": "response"}):
        with pytest.raises(Mismatch, match="a chat completion"):
            expect_completion(an_answer(200, bad))
