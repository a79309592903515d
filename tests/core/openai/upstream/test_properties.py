"""The normaliser on anything at all: it never fails, keeps the four fields, and tells nothing of the inside."""

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from aibrix_extproc.core.openai.contract.errors import error_object, shape
from aibrix_extproc.core.openai.upstream.normalize import problem_from_upstream
from aibrix_extproc.core.openai.upstream.text import MAX_MESSAGE_CHARS, for_client
from tests.core.openai.upstream.refused import refused

LEAK = re.compile(r"/usr/lib/|\.py\b|10\.1\.2\.3|0x7f|Valid aliases|Traceback|secret-host")
INTERNALS = (
    "/usr/lib/python3.12/site-packages/vllm/v1/engine/core.py",
    'File "/usr/lib/x.py", line 3, in f',
    "http://10.1.2.3:8000/v1/x",
    "10.1.2.3:8000",
    "<object at 0x7f0011>",
    "Valid aliases: a, b.",
    "Traceback (most recent call last):\n  x",
    "secret-host.default.svc.cluster.local",
    "secret-host.example.com:8000",
)


def told(status: int, content_type: str, body: bytes, path: str = "/v1/chat/completions") -> dict[str, str | None]:
    problem = problem_from_upstream(status, content_type, body, refused(path))
    fields = error_object(problem)
    assert list(fields) == ["message", "type", "param", "code"]
    assert isinstance(fields["message"], str)
    assert fields["message"]
    assert isinstance(fields["type"], str)
    assert fields["param"] is None or re.fullmatch(r"[\w.\[\]-]+", fields["param"])
    assert fields["code"] is None or (isinstance(fields["code"], str) and not fields["code"].isdigit())
    assert 400 <= problem.http_status <= 599
    assert problem.http_status not in (401, 408, 422)
    assert len(fields["message"]) <= MAX_MESSAGE_CHARS + 64
    assert json.loads(shape(problem).body)["error"] == fields
    return fields


@given(st.integers(100, 599), st.text(max_size=20), st.binary(max_size=400))
def test_any_bytes_become_a_problem(status: int, content_type: str, body: bytes) -> None:
    told(status, content_type, body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "detail", "message", "param", "code", "type", "loc", "msg", "input"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from([200, 400, 403, 404, 409, 422, 429, 500, 503]), json_values)
def test_any_json_becomes_a_problem(status: int, value: object) -> None:
    told(status, "application/json", json.dumps(value).encode())


@given(
    st.sampled_from([400, 404, 409, 422, 429, 500]),
    st.text(max_size=40),
    st.sampled_from(INTERNALS),
    st.text(max_size=40),
    st.sampled_from([None, "model", "body", "body.x", "input_tokens", "/usr/lib/x.py"]),
)
def test_internals_of_the_engine_in_any_text_never_come_through(
    status: int, before: str, internal: str, after: str, param: str | None
) -> None:
    error = {"message": f"{before} {internal} {after}", "type": "BadRequestError", "param": param, "code": status}
    fields = told(status, "application/json", json.dumps({"error": error}).encode())
    assert not LEAK.search(fields["message"] or "")


@given(st.text(max_size=300))
def test_text_for_a_client_is_one_short_line(text: str) -> None:
    line = for_client(text)
    assert len(line) <= MAX_MESSAGE_CHARS
    assert not re.search(r"[\x00-\x1f\x7f]", line)


@pytest.mark.parametrize(
    "text",
    [
        "The model `org/model-7b` does not exist.",
        "Use application/json and/or text.",
        "Only /v1/responses takes this.",
        "ratio 3/4, 1.5 and v1.2.3 are fine",
        "stop token </s> is reserved",
        "top_p must be in (0, 1], got 3.0.",
    ],
)
def test_harmless_words_are_kept(text: str) -> None:
    assert for_client(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Bad a. Set --max-model-len 5 please. Try less.", "Bad a. Try less."),
        ("See http://h:1/x?y for more", "See [url] for more"),
        ("cannot open ~/.cache/hub/x", "cannot open [path]"),
        ("connect to [::1]:8000 failed", "connect to [address] failed"),
        ("connect to localhost:8000 failed", "connect to [address] failed"),
        ("bad image data:image/png;base64,AAAA given", "bad image [data] given"),
        ("<Foo object at 0x7f00aa>", "<Foo object>"),
        ("a\n\n  b\tc", "a b c"),
        ("torch.OutOfMemoryError: CUDA out of memory", ""),
    ],
)
def test_internals_are_replaced_or_dropped(text: str, expected: str) -> None:
    assert for_client(text) == expected


@pytest.mark.parametrize(
    "unit",
    [" ", "\n ", "a.", "a-", "--a", "a+", "/a", "1", "1.", "[:", "suffix ", "dimensions ", "stream options only ",
     "{'type': 'x', 'loc': (", "{'type': 'x', 'loc': ('a',), 'msg': '\\\\a", "a\n  b\n",
     "prompt length 1 exceeds ", "'"],
)  # fmt: skip
def test_message_of_any_repeated_thing_is_read_in_linear_time(unit: str) -> None:
    error = {"message": unit * (60_000 // len(unit)), "type": "BadRequestError", "param": None, "code": 400}
    body = json.dumps({"error": error}).encode()
    began = time.process_time()
    told(400, "application/json", body)
    assert time.process_time() - began < 0.5  # some 10 ms; a pattern that backtracks takes seconds


class Part(BaseModel):
    type: str
    text: str


class Message(BaseModel):
    role: str
    content: str | list[Part]


class Body(BaseModel):
    model: str
    messages: list[Message]
    temperature: float = Field(1, ge=0, le=2)
    n: int = 1


def as_vllm_says_it(value: object) -> tuple[str, str] | None:
    """The message and param that vLLM makes of pydantic's errors, with the location as FastAPI prefixes it."""
    try:
        Body.model_validate(value)
    except ValidationError as refusal:
        errors = [{**error, "loc": ("body", *error["loc"])} for error in refusal.errors(include_url=False)]
        lines = "".join(f"  {error}\n" for error in errors).rstrip()
        first = refusal.errors()[0]["loc"]
        return f"{len(errors)} validation errors:\n{lines}", ".".join(str(part) for part in ("body", *first))
    return None


FIELDS = st.one_of(st.text(max_size=20), st.integers(), st.floats(), st.none(), st.booleans(), json_values)


@given(
    st.fixed_dictionaries(
        {}, optional={"model": FIELDS, "messages": FIELDS | st.lists(FIELDS), "temperature": FIELDS, "n": FIELDS}
    )
)
def test_real_dumps_of_any_request_become_one_clean_sentence(value: dict[str, object]) -> None:
    refused = as_vllm_says_it(value)
    if refused is None:
        return
    error = {"message": refused[0], "type": "Bad Request", "param": refused[1], "code": 400}
    fields = told(400, "application/json", json.dumps({"error": error}).encode())
    assert fields["code"] in ("missing_required_parameter", "invalid_type", "invalid_value")
    assert fields["param"] is not None
    assert not fields["param"].startswith("body")
    assert "'loc'" not in (fields["message"] or "")
