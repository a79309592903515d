"""What every refusal must look like, whoever made it: our processor, Envoy, or an engine."""

import json
import re
from typing import Any, Final

import openai

from tests.dataplane.engines import ENGINE_KEY
from tests.dataplane.raw import Answer

ANY: Final = "anything"
_LEAKS: Final = re.compile(
    r"traceback|File \"|site-packages|\.py\b|/usr/|/home/|/tmp/|pydantic|Valid aliases|uvicorn|aiohttp|vllm|envoy"
    r"|errors\.aibrix|\b127\.0\.0\.1\b|\blocalhost\b|\b\d{1,3}(?:\.\d{1,3}){3}:\d+|'(?:loc|ctx|input)':|"
    + re.escape(ENGINE_KEY),
    re.IGNORECASE,
)
_TYPES: Final = {"invalid_request_error", "server_error", "requests", "tokens", "insufficient_quota"}


def of_sdk(error: openai.APIStatusError) -> Answer:
    """The response behind an SDK's exception."""
    pairs = tuple((name.lower(), value) for name, value in error.response.headers.multi_items())
    return Answer(error.response.status_code, pairs, error.response.content)


def assert_openai_error(
    response: Answer | openai.APIStatusError,
    status: int,
    *,
    code: str | None = ANY,
    param: str | None = ANY,
    contains: str = "",
) -> dict[str, Any]:
    """The inner error object, after everything about it was checked."""
    answer = response if isinstance(response, Answer) else of_sdk(response)
    assert answer.status == status, (answer.status, answer.body[:500])
    assert answer.header("content-type") == "application/json"
    assert answer.header("x-request-id"), answer.headers
    assert "uvicorn" not in (answer.header("server") or "")
    document = json.loads(answer.body)
    assert set(document) == {"error"}, document
    error: dict[str, Any] = document["error"]
    assert set(error) == {"message", "type", "param", "code"}, error
    assert isinstance(error["message"], str), error
    assert error["message"], error
    assert error["type"] in _TYPES, error
    assert error["param"] is None or isinstance(error["param"], str), error
    assert error["code"] is None or isinstance(error["code"], str), error
    assert not _LEAKS.search(error["message"]), error
    assert not (error["param"] or "").startswith("body"), error
    _check_retry_headers(answer)
    assert code in (ANY, error["code"]), error
    assert param in (ANY, error["param"]), error
    assert contains.lower() in error["message"].lower(), error
    return error


def _check_retry_headers(answer: Answer) -> None:
    after = answer.header("retry-after")
    if after is not None:
        assert 1 <= int(after) <= 60, answer.headers
    assert after is not None or answer.status != 503, "a 503 says when to come back"
    assert answer.header("x-should-retry") in (None, "true", "false"), answer.headers
