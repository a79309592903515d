"""Lists of pydantic's errors, as vLLM puts them into its message in many ways, in OpenAI's words."""

import json

import pytest

from tests.core.openai.upstream.engine_errors import dump, shape_a, told


def test_list_of_fastapi_is_read_like_a_dump() -> None:
    detail = [{"type": "missing", "loc": ["body", "file"], "msg": "Field required", "input": None}]
    _, fields = told(422, {"detail": detail}, path="/v1/audio/transcriptions")
    assert (fields["code"], fields["param"]) == ("missing_required_parameter", "file")


@pytest.mark.parametrize("entry", [{}, 5, {"type": "missing"}, {"type": 1, "loc": []}, {"loc": ["body", "x"]}])
def test_list_of_fastapi_without_a_usable_entry_is_a_refusal(entry: object) -> None:
    problem, _ = told(422, {"detail": [entry]})
    assert (problem.key, problem.http_status) == ("bad_request", 400)


def test_list_of_fastapi_skips_what_is_no_entry() -> None:
    good = {"type": "string_type", "loc": ["body", "model"], "msg": "x", "input": [[1]]}
    _, fields = told(422, {"detail": [{}, good]})
    assert fields["message"] == "Invalid type for 'model': expected a string, but got an array instead."


def test_list_of_fastapi_with_a_deep_input_is_read() -> None:
    entry = '{"type": "string_type", "loc": ["body", "model"], "msg": "x", "input": ' + "[" * 500 + "]" * 500 + "}"
    _, fields = told(422, f'{{"detail": [{entry}]}}'.encode())
    assert fields["param"] == "model"


def test_union_names_each_type_that_would_do() -> None:
    message = (
        "2 validation errors:\n"
        "  {'type': 'string_type', 'loc': ('body', 'stop', 'str'), 'msg': 'Input should be a string', 'input': 5}\n"
        "  {'type': 'list_type', 'loc': ('body', 'stop', 'list[str]'), 'msg': 'Input should be a list', 'input': 5}"
    )
    _, fields = told(400, shape_a(400, "Bad Request", message, "body.stop"))
    assert fields["message"] == ("Invalid type for 'stop': expected a string or an array, but got an integer instead.")


@pytest.mark.parametrize(
    ("kind", "loc", "given", "code", "param", "ending"),
    [
        ("missing", "body.messages", "<dict of 1 items>", "missing_required_parameter", "messages", "'messages'."),
        ("float_parsing", "body.temperature", "hot", "invalid_type", "temperature", "but got a string instead."),
        ("int_parsing", "body.n", "5x", "invalid_type", "n", "but got a string instead."),
        ("list_type", "body.messages", "<dict of 2 items>", "invalid_type", "messages", "but got an object instead."),
        ("string_type", "body.messages.0.role", "5", "invalid_type", "messages[0].role", "but got an integer instead."),
        ("string_type", "body.model", "<list of 0 items>", "invalid_type", "model", "but got an array instead."),
        ("string_type", "body.user", "True", "invalid_type", "user", "but got a boolean instead."),
        ("string_type", "body.user", "None", "invalid_type", "user", "but got null instead."),
    ],
)
def test_dump_with_dotted_locations_and_shortened_values_is_read(
    kind: str, loc: str, given: str, code: str, param: str, ending: str
) -> None:
    message = dump(kind, f"'{loc}'", "'Input should be otherwise'", f"'{given}'")
    _, fields = told(400, shape_a(400, "Bad Request", message, loc))
    assert (fields["code"], fields["param"]) == (code, param)
    assert (fields["message"] or "").endswith(ending)


def test_dump_of_older_engines_with_file_and_endpoint_is_read() -> None:
    entry = "{'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field required', 'input': {'a': 1}}"
    message = (
        f'1 validation error:\n  {entry}\n\n  File "/usr/lib/python3.12/site-packages/vllm/x.py", line 5, in create\n'
        f"    POST /v1/chat/completions [{entry}]"
    )
    _, fields = told(400, shape_a(400, "Bad Request", message))
    assert fields["message"] == "Missing required parameter: 'messages'."


def test_dump_of_pydantic_itself_is_read() -> None:
    message = (
        "1 validation error for ChatCompletionRequest\nmessages.0.name\n  Input should be a valid string "
        "[type=string_type, input_value=[1, 2], input_type=list]\n"
        "    For further information visit https://errors.pydantic.dev/2.12/v/string_type"
    )
    _, fields = told(400, shape_a(400, "BadRequestError", message))
    assert fields["message"] == "Invalid type for 'messages[0].name': expected a string, but got an array instead."


WHOLE = shape_a(
    400,
    "Bad Request",
    dump("missing", "('body', 'messages')", "'Field required'", "{'prompt': 'it\\'s \"' + '" + "x" * 300 + "'}"),
    "body.messages",
)


@pytest.mark.parametrize("length", range(1, len(json.dumps(WHOLE))))
def test_dump_cut_anywhere_leaks_nothing(length: int) -> None:
    _, fields = told(400, json.dumps(WHOLE).encode()[:length])
    assert "{" not in (fields["message"] or "")


def test_dump_cut_inside_the_repeated_input_is_still_understood() -> None:
    raw = json.dumps(WHOLE).encode()
    _, fields = told(400, raw[: raw.index(b"xxx") + 5])
    assert (fields["code"], fields["param"]) == ("missing_required_parameter", "messages")


def test_dump_that_cannot_be_read_names_the_engines_param() -> None:
    _, fields = told(400, shape_a(400, "Bad Request", "3 validation errors:\n  {'typ': odd}", "body.tools.0.type"))
    assert fields["message"] == "Invalid value for 'tools[0].type'."
    assert (fields["code"], fields["param"]) == ("invalid_value", "tools[0].type")


def test_dump_that_cannot_be_read_and_names_nothing_is_one_sentence() -> None:
    _, fields = told(400, shape_a(400, "Bad Request", "3 validation errors:\n  {'typ': odd}"))
    assert fields["message"] == "The request has a field with an invalid value."


def test_dump_without_the_input_names_no_type() -> None:
    _, fields = told(422, {"detail": [{"type": "string_type", "loc": ["body", "user"], "msg": "x"}]})
    assert fields["message"] == "Invalid type for 'user': expected a string, but got another type instead."


def test_bound_that_is_no_number_is_left_out() -> None:
    message = dump("less_than", "('body', 'n')", "'Input should be less than the limit'", "3")
    _, fields = told(400, shape_a(400, "Bad Request", message))
    assert fields["message"] == "Invalid 'n': above maximum value."
