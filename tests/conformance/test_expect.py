"""What counts as OpenAI's error."""

import json
from typing import Any

import pytest

from aibrix_extproc.conformance.case import Mismatch
from aibrix_extproc.conformance.expect import expect_completion, expect_error, expect_json
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
     (an_answer(server="uvicorn"), "no 'server: uvicorn'"),
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
     ({"contains": "does not exist"}, "a message that matches 'does not exist'")],
)  # fmt: skip
def test_what_the_case_wants_beyond_the_shape_is_named(wanted: dict[str, str], expected: str) -> None:
    with pytest.raises(Mismatch) as caught:
        expect_error(an_answer(), 400, **wanted)
    assert caught.value.expected == expected
    assert caught.value.came.startswith("400 application/json: {")


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
