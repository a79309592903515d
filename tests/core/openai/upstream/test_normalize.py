"""Every error that vLLM is known to give, and what the client sees of it."""

import pytest

from aibrix_extproc.core.openai.contract.errors import shape
from tests.core.openai.upstream.engine_errors import dump, shape_a, told

# id, engine's status, kind, message, param -> status, code, param, message for the client
SHAPE_A = [
    ("unknown model", 404, "NotFoundError", "The model `nope` does not exist. Valid aliases: a, b.", "model",
     404, "model_not_found", None, "The model `m` does not exist or you do not have access to it."),
    ("unknown model of a pooling engine", 404, "NotFoundError", "The model `nope` does not exist.", None,
     404, "model_not_found", None, "The model `m` does not exist or you do not have access to it."),
    ("model is a number", 400, "Bad Request",
     dump("string_type", "('body', 'model')", "'Input should be a valid string'", "5"), "body.model",
     400, "invalid_type", "model", "Invalid type for 'model': expected a string, but got an integer instead."),
    ("malformed JSON", 400, "Bad Request",
     dump("json_invalid", "('body', 1)", "'JSON decode error'", "{}", ", 'ctx': {'error': 'Expecting value'}"),
     "body.1", 400, None, None, "We could not parse the JSON body of your request."),
    ("malformed JSON in plain words", 400, "Bad Request", "JSON decode error", "body.1",
     400, None, None, "We could not parse the JSON body of your request."),
    ("body is an array", 400, "Bad Request",
     dump("model_attributes_type", "('body',)", "'Input should be a valid dictionary or object to extract fields'",
          "[1]"),
     "body", 400, None, None, "We could not parse the JSON body of your request."),
    ("empty body", 400, "Bad Request", dump("missing", "('body',)", "'Field required'", "None"), "body",
     400, None, None, "We could not parse the JSON body of your request."),
    ("content type", 400, "Bad Request", "Unsupported Media Type: Only 'application/json' is allowed", None,
     400, "unsupported_content_type", None, "only accepts 'application/json' requests"),
    ("missing messages", 400, "Bad Request",
     dump("missing", "('body', 'messages')", "'Field required'", "{'model': 'm'}"), "body.messages",
     400, "missing_required_parameter", "messages", "Missing required parameter: 'messages'."),
    ("no messages", 400, "BadRequestError",
     "Cannot apply chat template to an empty conversation. Traceback (most recent call last): x", None,
     400, "invalid_value", "messages", "Invalid 'messages': empty array."),
    ("temperature is text", 400, "Bad Request",
     dump("float_parsing", "('body', 'temperature')",
          "'Input should be a valid number, unable to parse string as a number'", "'hot'"),
     "body.temperature", 400, "invalid_type", "temperature",
     "Invalid type for 'temperature': expected a decimal, but got a string instead."),
    ("temperature below zero", 400, "BadRequestError",
     "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)", "temperature",
     400, "invalid_value", "temperature", "temperature must be non-negative, got -1.0."),
    ("top_p", 400, "BadRequestError", "top_p must be in (0, 1], got 3.0. (parameter=top_p, value=3.0)", "top_p",
     400, "invalid_value", "top_p", "top_p must be in (0, 1], got 3.0."),
    ("suffix of the message names the field", 400, "BadRequestError",
     "n must be at least 1, got 0. (parameter=n, value=0)", None,
     400, "invalid_value", "n", "n must be at least 1, got 0."),
    ("prefix of the body is stripped", 400, "BadRequestError", "max_tokens must be at least 1, got 0.",
     "body.max_tokens", 400, "invalid_value", "max_tokens", "max_tokens must be at least 1, got 0."),
    ("bound of the schema", 400, "Bad Request",
     dump("less_than_equal", "('body', 'temperature')", "'Input should be less than or equal to 2'", "3",
          ", 'ctx': {'le': 2.0}"),
     "body.temperature", 400, "invalid_value", "temperature",
     "Invalid 'temperature': integer above maximum value. Expected a value <= 2, but got 3 instead."),
    ("lower bound of the schema", 400, "Bad Request",
     dump("greater_than_equal", "('body', 'n')", "'Input should be greater than or equal to 0.5'", "-1.5"), "body.n",
     400, "invalid_value", "n",
     "Invalid 'n': decimal below minimum value. Expected a value >= 0.5, but got -1.5 instead."),
    ("one of", 400, "Bad Request",
     dump("literal_error", "('body', 'encoding_format')", "\"Input should be 'float' or 'base64'\"", "'hex'"),
     "body.encoding_format", 400, "invalid_value", "encoding_format",
     "Invalid value: 'hex'. Supported values are: 'float' or 'base64'."),
    ("forbidden field", 400, "Bad Request",
     dump("extra_forbidden", "('body', 'foo')", "'Extra inputs are not permitted'", "1"), "body.foo",
     400, "unknown_parameter", "foo", "Unknown parameter: 'foo'."),
    ("too many of something", 400, "Bad Request",
     dump("too_long", "('body', 'stop')", "'List should have at most 4 items after validation, not 5'", "['a']"),
     "body.stop", 400, "array_above_max_length", "stop",
     "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length 5"),
    ("inside an array", 400, "Bad Request",
     dump("missing", "('body', 'messages', 0, 'ChatCompletionUserMessageParam', 'function-wrap[f()]', 'role')",
          "'Field required'", "{'content': 'x'}"),
     "body.messages.0.role", 400, "missing_required_parameter", "messages[0].role",
     "Missing required parameter: 'messages[0].role'."),
    ("max_tokens over the context", 400, "BadRequestError",
     "max_tokens=100000 cannot be greater than max_model_len=256. Please request fewer output tokens."
     " (parameter=max_tokens, value=100000)", "max_tokens",
     400, "invalid_value", "max_tokens", "max_tokens=100000 cannot be greater than max_model_len=256."),
    ("prompt too long, in tokens", 400, "BadRequestError",
     "This model's maximum context length is 256 tokens. However, your prompt contains at least 257 input tokens. "
     "Please reduce the length of the input prompt or the number of requested output tokens."
     " (parameter=input_tokens, value=257)", "input_tokens",
     400, "context_length_exceeded", "messages", "maximum context length is 256 tokens"),
    ("prompt too long, in characters", 400, "BadRequestError",
     "This model's maximum context length is 256 tokens. However, your prompt contains 9000 characters (more than "
     "8192 characters, which is the upper bound for 256 input tokens).", "input_text",
     400, "context_length_exceeded", "messages", "maximum context length is 256 tokens"),
    ("prompt too long for responses", 400, "invalid_request_error",
     "The engine prompt length 300 exceeds the max_model_len 256. Please reduce prompt.", "input",
     400, "context_length_exceeded", "messages", "maximum context length is 256 tokens"),
    ("prompt too long elsewhere", 400, "BadRequestError",
     "Input length (300) exceeds model's maximum context length (256).", None,
     400, "context_length_exceeded", "messages", "maximum context length is 256 tokens"),
    ("prompt too long in other words", 400, "BadRequestError",
     "The decoder prompt (length 300) is longer than the maximum model length of 256. Make sure it is shorter.", None,
     400, "context_length_exceeded", "messages", "maximum context length is 256 tokens"),
    ("prompt and output too long", 400, "BadRequestError",
     "'max_tokens' or 'max_completion_tokens' is too large: 250. This model's maximum context length is 256 tokens "
     "and your request has 12 input tokens (250 > 256 - 12).", "max_tokens",
     400, "context_length_exceeded", "max_tokens", "maximum context length is 256 tokens"),
    ("stream_options without stream", 400, "BadRequestError",
     "Stream options can only be defined when `stream=True`. (parameter=stream_options)", "stream_options",
     400, None, "stream_options", "The 'stream_options' parameter is only allowed when 'stream' is enabled."),
    ("stream_options without stream, from the validator", 400, "Bad Request",
     dump("value_error", "('body',)",
          '"Value error, Stream options can only be defined when `stream=True`. (parameter=stream_options)"',
          "{'model': 'm'}", ", 'ctx': {'error': VLLMValidationError('Stream')}"),
     "stream_options", 400, None, "stream_options", "is only allowed when 'stream' is enabled."),
    ("a validator's own words", 400, "Bad Request",
     dump("value_error", "('body',)", "'Value error, top_logprobs must be positive (parameter=top_logprobs, value=-1)'",
          "{}"),
     "body", 400, "invalid_value", "top_logprobs", "top_logprobs must be positive"),
    ("a validator's own words without a field", 400, "Bad Request",
     dump("value_error", "('body',)", "'Value error, You can only use one kind of structured outputs.'", "{}"),
     "body", 400, "invalid_value", None, "You can only use one kind of structured outputs."),
    ("tool choice without a parser", 400, "BadRequestError",
     '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set', None,
     400, "unsupported_parameter", "tool_choice", "Unsupported parameter: 'tool_choice'"),
    ("image for a text model", 400, "BadRequestError", "/models/llama is not a multimodal model", None,
     400, "unsupported_value", "messages", "the model 'm' does not take images"),
    ("image that cannot be fetched", 422, "UnprocessableEntityError",
     "Failed to fetch image from https://example.org/a.png: 404", None,
     400, "invalid_image_url", None, "could not fetch the image"),
    ("unprocessable for another reason", 422, "UnprocessableEntityError", "Sampling failed for this prompt.", None,
     400, None, None, "Sampling failed for this prompt."),
    ("queue full", 503, "Service Unavailable", "The engine is currently busy and its request queue is full.", None,
     503, "overloaded", None, "currently overloaded"),
    ("prefill backlog", 503, "Service Unavailable", "The prefill token backlog limit is reached.", None,
     503, "overloaded", None, "currently overloaded"),
    ("KV load failed", 503, "ServiceUnavailableError", "KV load failed", None,
     503, "overloaded", None, "currently overloaded"),
    ("engine dead", 500, "InternalServerError",
     "EngineCore encountered an issue. See stack trace (above) for the root cause.", None,
     500, None, None, "The server had an error while processing your request."),
    ("bug with internals", 500, "Internal Server Error", 'File "/usr/lib/python3/x.py", line 3, in 10.0.0.1', None,
     500, None, None, "The server had an error while processing your request."),
    ("not implemented", 501, "NotImplementedError", "Beam search is not implemented in vllm.v1.x", None,
     400, "unsupported_endpoint", "model", "The model 'm' does not support this endpoint."),
    ("peers' endpoint", 403, "PermissionDeniedError", "Start the server with --enable-scale-out", None,
     404, None, None, "Invalid URL (POST /v1/chat/completions)"),
    ("response id", 404, "invalid_request_error", "Response with id 'resp_1' not found.", "response_id",
     404, None, "response_id", "Response with id 'resp_1' not found."),
    ("background without a store", 400, "invalid_request_error",
     "This vLLM engine does not support `store=True` ... set VLLM_ENABLE_RESPONSES_API_STORE=1 ...", "background",
     400, "unsupported_parameter", "background", "Unsupported parameter: 'background'"),
    ("LoRA loaded twice", 400, "InvalidUserInput",
     "The lora adapter 'l1' has already been loaded. If you want to load it again, set 'load_inplace' to True.", None,
     400, None, None, "The lora adapter 'l1' has already been loaded."),
    ("LoRA path missing", 404, "NotFoundError", "Loading lora l1 failed: No adapter found for /nope/here", None,
     404, None, None, "Loading lora l1 failed: No adapter found for [path]"),
    ("LoRA unknown", 404, "NotFoundError", "The lora adapter 'l1' cannot be found.", None,
     404, None, None, "The lora adapter 'l1' cannot be found."),
    ("scaling timed out", 408, "Request Timeout", "Drain timed out at 10.0.0.3:8000", None,
     504, "timeout", None, "Request timed out."),
    ("scaling refused", 400, "Bad Request", "new_data_parallel_size must be a positive integer", None,
     400, "invalid_value", "new_data_parallel_size", "new_data_parallel_size must be a positive integer"),
    ("profiler already on", 409, "Conflict", "The profiler is already active.", None,
     409, None, None, "The profiler is already active."),
    ("rate limited by a proxy", 429, "rate_limit", "Slow down, 10.0.0.1 is busy.", None,
     429, "rate_limit_exceeded", None, "Slow down, [address] is busy."),
    ("bad mode of an operation", 400, "Bad Request", "Invalid mode 'x'.", "query.mode",
     400, "invalid_value", "mode", "Invalid mode 'x'."),
    ("dimensions", 400, "BadRequestError",
     'Model "m" does not support matryoshka representation, changing output dimensions will lead to poor results.',
     None, 400, "unsupported_parameter", "dimensions", "Unsupported parameter: 'dimensions'"),
    ("suffix", 400, "BadRequestError", "suffix is not currently supported", "suffix",
     400, "unsupported_parameter", "suffix", "Unsupported parameter: 'suffix'"),
    ("too many images", 400, "BadRequestError", "At most 1 image(s) may be provided in one prompt.", None,
     400, "invalid_value", "messages", "At most 1 image(s) may be provided in one prompt."),
    ("audio too large for the engine", 400, "BadRequestError",
     "Maximum file size exceeded (parameter=audio_filesize_mb, value=30.1)", "audio_filesize_mb",
     400, "invalid_value", "file", "Maximum file size exceeded"),
    ("chat on an engine that cannot", 400, "BadRequestError", "The model does not support Chat Completions API", None,
     400, "unsupported_endpoint", "model", "The model 'm' does not support this endpoint."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "kind", "message", "param", "shown_status", "code", "shown_param", "shown_message"),
    [pytest.param(*row[1:], id=row[0]) for row in SHAPE_A],
)
def test_engine_error_of_the_normal_shape_is_told_in_openai_words(
    status: int,
    kind: str,
    message: str,
    param: str | None,
    shown_status: int,
    code: str | None,
    shown_param: str | None,
    shown_message: str,
) -> None:
    problem, fields = told(status, shape_a(status, kind, message, param))
    assert (problem.http_status, fields["code"], fields["param"]) == (shown_status, code, shown_param)
    assert shown_message in (fields["message"] or "")
    expected_type = "server_error" if shown_status >= 500 else "invalid_request_error"
    assert fields["type"] == ("requests" if shown_status == 429 else expected_type)


@pytest.mark.parametrize(
    ("status", "body", "content_type", "key"),
    [
        pytest.param(404, {"detail": "Not Found"}, "application/json", "model_wrong_task", id="B no such route"),
        pytest.param(405, {"detail": "Method Not Allowed"}, "application/json", "model_wrong_task", id="B method"),
        pytest.param(400, {"detail": "There was an error parsing the body"}, "application/json", "malformed_json",
                     id="B undecodable body"),
        pytest.param(401, {"error": "Unauthorized"}, "application/json", "upstream_error", id="C key of the gateway"),
        pytest.param(503, {"error": "The model is currently scaling. Please try again later."}, "application/json",
                     "overloaded", id="C scaling"),
        pytest.param(400, {"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens: bad"}},
                     "application/json", "bad_request", id="D Anthropic"),
        pytest.param(400, {"message": "texts must not be empty", "id": "x"}, "application/json", "bad_request",
                     id="E Cohere"),
        pytest.param(500, {"error": "Failed to pause: boom at 0x7f00"}, "application/json", "upstream_error",
                     id="F pause"),
        pytest.param(400, b"Disallowed CORS origin", "text/plain", "bad_request", id="G CORS"),
        pytest.param(400, {"object": "error", "message": "bad", "type": "BadRequestError", "param": None, "code": 400},
                     "application/json", "bad_request", id="flat object of old engines"),
        pytest.param(502, b"<html><body>Bad Gateway</body></html>", "text/html", "bad_gateway", id="HTML 502"),
        pytest.param(400, b"<!DOCTYPE html><html>nginx/1.2</html>", "", "bad_request", id="HTML without its type"),
        pytest.param(404, b"<html>nginx</html>", "text/html", "model_wrong_task", id="HTML 404"),
        pytest.param(404, b"", "", "model_wrong_task", id="empty 404"),
        pytest.param(400, b"", "", "bad_request", id="empty 400"),
        pytest.param(500, b"Internal Server Error", "text/plain", "upstream_error", id="plain 500"),
        pytest.param(403, b"RBAC: access denied", "text/plain", "upstream_error", id="403 of a proxy"),
        pytest.param(504, b"upstream request timeout", "text/plain", "timeout", id="504 of a proxy"),
        pytest.param(529, b"", "", "overloaded", id="529"),
        pytest.param(507, b"", "", "upstream_error", id="507"),
        pytest.param(431, b"", "", "headers_too_large", id="431"),
        pytest.param(413, b"", "", "bad_request", id="413"),
        pytest.param(418, b"", "", "bad_request", id="418"),
        pytest.param(307, b"", "", "upstream_error", id="redirect"),
        pytest.param(400, b"[1, 2]", "application/json", "bad_request", id="an array"),
        pytest.param(400, b'"just words"', "application/json", "bad_request", id="a string"),
        pytest.param(400, {"error": {"message": {"a": 1}, "param": 5, "code": True}}, "application/json",
                     "bad_request", id="fields of wrong types"),
        pytest.param(400, {"error": {}}, "application/json", "bad_request", id="empty error"),
        pytest.param(400, b"[" * 100_000, "application/json", "bad_request", id="deep nesting"),
        pytest.param(200, {"error": {"message": "EngineCore died", "code": 500}}, "application/json", "upstream_error",
                     id="error at 200"),
        pytest.param(200, {"error": {"message": "The model `m` does not exist.", "code": 404}}, "application/json",
                     "model_not_found", id="unknown model at 200"),
        pytest.param(200, {"error": "odd"}, "application/json", "upstream_error", id="text error at 200"),
    ],
)  # fmt: skip
def test_engine_error_of_any_other_shape_becomes_its_row(
    status: int, body: object, content_type: str, key: str
) -> None:
    problem, _ = told(status, body, content_type=content_type)
    assert problem.key == key


def test_missing_route_without_a_model_is_an_unknown_url() -> None:
    problem, fields = told(405, {"detail": "Method Not Allowed"}, model=None, method="DELETE", path="/v1/responses/r")
    assert (problem.http_status, fields["message"]) == (404, "Invalid URL (DELETE /v1/responses/r)")


def test_undecodable_form_is_told_as_a_form() -> None:
    problem, _ = told(400, {"detail": "There was an error parsing the body"}, path="/v1/audio/transcriptions")
    assert problem.key == "malformed_multipart"


@pytest.mark.parametrize("response_id", ["resp_1", "resp_" + "x" * 300, ""])
def test_response_that_an_engine_has_lost_is_what_clients_resend_their_history_on(response_id: str) -> None:
    said = f"Response with id '{response_id}' not found."
    body = {"error": {"message": said, "type": "invalid_request_error", "param": "response_id", "code": 404}}
    problem, fields = told(404, body, path="/v1/responses")
    assert (problem.http_status, fields["code"]) == (400, "previous_response_not_found")
    assert fields["param"] == "previous_response_id"
    assert str(fields["message"]).startswith(f"Previous response with id '{response_id[:128]}")
    problem, _ = told(404, body, path=f"/v1/responses/{response_id}", method="GET")
    assert problem.http_status == 404


@pytest.mark.parametrize(("path", "param"), [("/v1/completions", "prompt"), ("/v1/responses", "input")])
def test_too_long_prompt_names_the_field_of_its_operation(path: str, param: str) -> None:
    body = shape_a(400, "BadRequestError", "This model's maximum context length is 8 tokens.", "input_tokens")
    _, fields = told(400, body, path=path)
    assert (fields["code"], fields["param"]) == ("context_length_exceeded", param)


def test_field_that_only_the_words_name_is_the_param() -> None:
    _, fields = told(400, shape_a(400, "BadRequestError", "n must be at least 1, got 0."))
    assert (fields["param"], fields["message"]) == ("n", "n must be at least 1, got 0.")


def test_message_is_shortened() -> None:
    _, fields = told(400, shape_a(400, "BadRequestError", "word " * 1000))
    assert len(fields["message"] or "") <= 512


def test_name_of_an_engines_code_is_kept_and_a_number_never() -> None:
    _, named = told(400, {"error": {"message": "x", "code": "content_filter"}})
    _, numbered = told(400, {"error": {"message": "x", "code": "400"}})
    assert (named["code"], numbered["code"]) == ("content_filter", None)


def test_unknown_model_without_a_request_model_takes_the_engines_name() -> None:
    _, fields = told(404, shape_a(404, "NotFoundError", "The model `l1` does not exist.", "model"), model=None)
    assert "`l1` does not exist" in (fields["message"] or "")


def test_detail_object_is_read_like_an_error() -> None:
    _, fields = told(400, {"detail": {"message": "n must be at least 1.", "param": "n"}})
    assert (fields["param"], fields["message"]) == ("n", "n must be at least 1.")


@pytest.mark.parametrize("tail", [b"\\", b"\\u", b"\\u00e", b"\\ud83d\\ude0"])
def test_message_cut_inside_an_escape_is_kept_up_to_it(tail: bytes) -> None:
    _, fields = told(400, b'{"error":{"message":"n is too small' + tail)
    assert (fields["message"] or "").startswith("n is too small")


def test_message_with_escapes_that_are_none_is_dropped() -> None:
    _, fields = told(400, b'{"error":{"message":"\\x \\x \\x \\x","param":')
    assert fields["message"] == "The engine refused the request."


def test_too_long_prompt_told_in_internals_alone_gets_our_words() -> None:
    _, fields = told(400, shape_a(400, "BadRequestError", "Raise --max-model-len, the context window is full"))
    assert fields["code"] == "context_length_exceeded"
    assert "context window" in (fields["message"] or "")


def test_unknown_model_in_other_words_is_known_by_its_param() -> None:
    _, fields = told(404, shape_a(404, "NotFoundError", "No such adapter", "model"))
    assert fields["code"] == "model_not_found"


def test_answer_that_the_only_engine_broke_off_is_no_ready_model() -> None:
    problem, _ = told(530, {"id": "chatcmpl-1", "choices": [{"finish_reason": "abort"}]})
    assert (problem.key, problem.http_status) == ("model_not_ready", 503)


def test_failure_that_other_engines_would_repeat_is_not_repeated_by_clients() -> None:
    problem, _ = told(520, shape_a(500, "InternalServerError", "CUDA error: out of memory"))
    assert ("x-should-retry", "false") in shape(problem).headers
    assert problem.http_status == 500
    problem, _ = told(500, shape_a(500, "InternalServerError", "CUDA error: out of memory"))
    assert "x-should-retry" not in dict(shape(problem).headers)
