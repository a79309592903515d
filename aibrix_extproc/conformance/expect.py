"""What answers must be like; each function raises Mismatch with what it wanted and what came."""

import re
from typing import Any, Final

from aibrix_extproc.conformance.case import Limited, Mismatch
from aibrix_extproc.conformance.wire import Answer

ANY: Final = "anything"
TOO_MANY: Final = 429
KEYS: Final = frozenset({"message", "type", "param", "code"})
_BODY: Final = re.compile(r"body($|[.\[])")
_UNKNOWN: Final = "model_not_found"
COMPARED: Final = (_UNKNOWN, "invalid_api_key", "context_length_exceeded")
RETRY_AFTER_SECONDS: Final = range(1, 61)

# What only the engine's operator should see: source paths, tracebacks, dumps of validation errors, lists of models.
LEAKS: Final = re.compile(
    r"Traceback|File \\?\"|site-packages|/\S+\.py\b|pydantic|Valid aliases|'(?:loc|ctx)':|uvicorn", re.IGNORECASE
)


NO_REQUEST_ID: Final = "answers have no x-request-id header"
NO_CORS: Final = "web pages of other origins may not ask or read"
NO_401: Final = "a missing or wrong key is not refused with a 401"
NOT_OPENAI: Final = "errors are not OpenAI's error object with message, type, param and code"
NOT_TEXT: Final = "param or code of errors is a number or the like, not a word or null"
NOT_JSON: Final = "errors are not sent as application/json"
LEAKING: Final = "errors show internals of the engine"
ENGINES_PARAM: Final = "errors name a param as the engine's validation does (body.x)"
RETRY_AFTER: Final = "retry headers that SDKs cannot use"
NO_404: Final = "an unknown model is not refused with a 404 and the code model_not_found"


def check(holds: object, expected: str, came: object, root: str = "") -> None:
    """Mismatch unless it holds. `root`: the fault, if other cases would meet the same one."""
    if not holds:
        raise Mismatch(expected, str(came), root)


def expect_status(answer: Answer, *statuses: int) -> Answer:
    """One of these statuses."""
    return _expect_status(answer, statuses, NO_401 if statuses == (401,) else "")


def _expect_status(answer: Answer, statuses: tuple[int, ...], root: str) -> Answer:
    if answer.status == TOO_MANY and TOO_MANY not in statuses:
        raise Limited(str(answer))
    check(answer.status in statuses, f"status {_either(statuses)}", answer, root)
    return answer


def expect_json(answer: Answer, *statuses: int) -> dict[str, Any]:
    """An object with one of these statuses, 200 if none is named."""
    expect_status(answer, *(statuses or (200,)))
    document = answer.json()
    check(isinstance(document, dict), "a JSON object", answer)
    return dict(document)


def expect_completion(answer: Answer) -> dict[str, Any]:
    """A chat completion with a choice."""
    made = expect_json(answer)
    check(made.get("object") == "chat.completion" and made.get("choices"), "a chat completion", answer)
    return made


def expect_error(
    answer: Answer, *statuses: int, code: str | None = ANY, param: str | None = ANY, contains: str = ""
) -> dict[str, Any]:
    """OpenAI's error with one of these statuses; `contains` is a regular expression for its message.

    Programs decide by a code or param that is there and right, and can do without one: null passes for both, but for
    the codes that the SDKs' users are known to compare with.
    """
    _expect_status(answer, statuses, NO_404 if code == _UNKNOWN else NO_401 if statuses == (401,) else "")
    error = _shape(answer)
    codes = (ANY, error["code"]) if code in COMPARED else (ANY, error["code"], error["code"] or code)
    check(code in codes, f"code {_json(code)}", answer, NO_404 if code == _UNKNOWN else "")
    check(param in (ANY, error["param"], error["param"] or param), f"param {_json(param)}", answer)
    check(re.search(contains, error["message"], re.IGNORECASE), f"a message that matches {contains!r}", answer)
    check(not LEAKS.search(error["message"]), "a message without internals of the engine", answer, LEAKING)
    check(not _BODY.match(error["param"] or ""), "a param without 'body'", answer, ENGINES_PARAM)
    check(answer.header("x-request-id"), "an x-request-id header on an error", f"none on {answer}", NO_REQUEST_ID)
    expect_retry_headers(answer)
    return error


def expect_retry_headers(answer: Answer) -> None:
    """Whole seconds from 1 to 60: python SDKs give up above 120 and ignore 0, node sleeps whatever it is told."""
    after = answer.header("retry-after")
    within = after.isdigit() and int(after) in RETRY_AFTER_SECONDS
    check(not after or within, "retry-after of 1 to 60 seconds", f"{after!r} on {answer}", RETRY_AFTER)
    should = answer.header("x-should-retry")
    check(should in ("", "true", "false"), "x-should-retry true or false in lower case", should, RETRY_AFTER)


def _shape(answer: Answer) -> dict[str, Any]:
    expected = "OpenAI's error object with message, type, param and code"
    document = _error_document(answer, expected)
    error = document.get("error") if isinstance(document, dict) else None
    # OpenAI's own errors have further members now and then, and SDKs take them.
    check(isinstance(error, dict) and set(error) >= KEYS, expected, answer, NOT_OPENAI)
    assert isinstance(error, dict)
    check(isinstance(error["message"], str) and error["message"], "a message", answer, NOT_OPENAI)
    check(isinstance(error["type"], str) and error["type"], "a type", answer, NOT_OPENAI)
    for key in ("param", "code"):
        check(error[key] is None or isinstance(error[key], str), f"{key} as text or null", answer, NOT_TEXT)
    check(not (error["code"] or "").isdigit(), "a word as code, or null", answer, NOT_TEXT)
    media = answer.header("content-type").partition(";")[0].strip()
    check(media == "application/json", "content-type application/json", answer, NOT_JSON)
    return error


def _error_document(answer: Answer, expected: str) -> object:
    try:
        return answer.json()
    except Mismatch as mismatch:
        raise Mismatch(expected, mismatch.came, NOT_OPENAI) from mismatch


def _json(value: str | None) -> str:
    return "null" if value is None else repr(value)


def _either(statuses: tuple[int, ...]) -> str:
    return " or ".join(map(str, statuses))
