"""500s of engines that the request is to blame for."""

from typing import Any

import pytest

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.upstream.normalize import problem_from_upstream
from aibrix_extproc.core.openai.upstream.rules import Request
from aibrix_extproc.simulator.errors import shape_a
from tests.core.openai.upstream.refused import refused
from tests.recorded.faults import CONSTRAINTS, FAULTS_OF_THE_ENGINE, FRONTEND, MEDIA, READING


def told(status: int, message: str, *, constrained_by: str | None = None, kind: str = "InternalServerError") -> Problem:
    return problem_from_upstream(
        status, "application/json", shape_a(500, kind, message).body, refused(constrained_by=constrained_by)
    )


@pytest.mark.parametrize("status", [500, 520])
@pytest.mark.parametrize("message", MEDIA)
def test_media_that_cannot_be_had_is_an_invalid_url(status: int, message: str) -> None:
    problem = told(status, message)
    assert (problem.key, problem.http_status) == ("invalid_image_url", 400)


@pytest.mark.parametrize("status", [500, 520])
@pytest.mark.parametrize("message", CONSTRAINTS)
def test_constraint_that_fails_is_invalid_and_named(status: int, message: str) -> None:
    problem = told(status, message, constrained_by="response_format")
    assert (problem.http_status, problem.param) == (400, "response_format")
    assert told(status, message).key == "upstream_error"


@pytest.mark.parametrize(("message", "param"), FRONTEND.items())
def test_failure_of_the_rust_frontend_names_its_field(message: str, param: str) -> None:
    problem = told(500, message)
    assert (problem.http_status, problem.param) == (400, param)


@pytest.mark.parametrize("message", READING)
def test_request_that_the_engine_cannot_read_is_invalid_and_tells_nothing_of_its_code(message: str) -> None:
    problem = told(520, message)
    assert (problem.http_status, problem.param) == (400, "messages")
    assert problem.values["message"] == "Invalid 'messages': the engine cannot read a part of it."


@pytest.mark.parametrize("message", FAULTS_OF_THE_ENGINE)
def test_words_of_an_engine_that_lacks_something_are_its_failure(message: str) -> None:
    assert told(500, message).key == "upstream_error"


def test_anthropics_word_for_a_failure_is_one_too() -> None:
    problem = told(500, "Internal server error", constrained_by="output_config", kind="api_error")
    assert (problem.http_status, problem.param) == (400, "output_config.format")


@pytest.mark.parametrize(
    ("message", "form", "param"),
    [
        ("", {}, "language"),
        ("", {"names_language": True}, None),
        ("tuple index out of range", {"names_language": True, "response_format": "verbose_json"}, "response_format"),
        ("tuple index out of range", {"names_language": True, "response_format": "json"}, None),
        ("Internal server error", {}, None),
    ],
    ids=["no-language", "language", "no-segments", "json", "engine"],
)
def test_recording_that_the_engine_cannot_use_is_refused_with_the_field_that_helps(
    message: str, form: dict[str, Any], param: str | None
) -> None:
    asked = refused("/v1/audio/transcriptions")
    request = Request(asked.method, asked.path, asked.operation, model="m", **form)
    body = shape_a(500, "InternalServerError", message).body
    problem = problem_from_upstream(500, "application/json", body, request)
    assert (problem.http_status, problem.param) == ((500, None) if param is None else (400, param))


def test_other_kinds_of_500_stay_failures() -> None:
    for message in (*MEDIA, *FRONTEND, *READING):
        assert told(500, message, kind="Oops").key == "upstream_error"
    assert told(500, "The server had an error while processing your request.").key == "upstream_error"


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ("At most 0 audio(s) may be provided in one prompt.", "audio"),
        ("At most 0 video(s) may be provided in one prompt.", "video"),
        ("At most 0 image(s) may be provided in one prompt.", "image"),
        ("unsupported multimodal content: video_url", "video"),
    ],
)
def test_model_that_takes_other_media_is_told_about_this_one_only(message: str, what: str) -> None:
    body = shape_a(400, "BadRequestError", message).body
    problem = problem_from_upstream(400, "application/json", body, refused())
    text = f"Unsupported value: the model 'm' does not take {what} input."
    assert (problem.key, problem.values["message"]) == ("unsupported_value", text)
