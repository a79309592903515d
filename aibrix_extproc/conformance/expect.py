"""What answers must be like; each function raises Mismatch with what it wanted and what came."""

import re
from typing import Any, Final

from aibrix_extproc.conformance.case import Mismatch
from aibrix_extproc.conformance.wire import Answer

ANY: Final = "anything"
KEYS: Final = frozenset({"message", "type", "param", "code"})
RETRY_AFTER_SECONDS: Final = range(1, 61)

# What only the engine's operator should see: source paths, tracebacks, dumps of validation errors, lists of models.
LEAKS: Final = re.compile(
    r"Traceback|File \\?\"|site-packages|/\S+\.py\b|pydantic|Valid aliases|'(?:loc|ctx|input)':|uvicorn", re.IGNORECASE
)


def check(holds: object, expected: str, came: object) -> None:
    """Mismatch unless it holds."""
    if not holds:
        raise Mismatch(expected, str(came))


def expect_status(answer: Answer, *statuses: int) -> Answer:
    """One of these statuses."""
    check(answer.status in statuses, f"status {_either(statuses)}", answer)
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
    """OpenAI's error with one of these statuses; `contains` is a regular expression for its message."""
    expect_status(answer, *statuses)
    error = _shape(answer)
    check(code in (ANY, error["code"]), f"code {_json(code)}", answer)
    check(param in (ANY, error["param"]), f"param {_json(param)}", answer)
    check(re.search(contains, error["message"], re.IGNORECASE), f"a message that matches {contains!r}", answer)
    check(not LEAKS.search(error["message"]), "a message without internals of the engine", answer)
    check(not (error["param"] or "").startswith("body"), "a param without 'body'", answer)
    check(answer.header("x-request-id"), "an x-request-id header on an error", f"none on {answer}")
    check("uvicorn" not in answer.header("server"), "no 'server: uvicorn'", answer.header("server"))
    expect_retry_headers(answer)
    return error


def expect_retry_headers(answer: Answer) -> None:
    """Whole seconds from 1 to 60: python SDKs give up above 120 and ignore 0, node sleeps whatever it is told."""
    after = answer.header("retry-after")
    within = after.isdigit() and int(after) in RETRY_AFTER_SECONDS
    check(not after or within, "retry-after of 1 to 60 seconds", f"{after!r} on {answer}")
    should = answer.header("x-should-retry")
    check(should in ("", "true", "false"), "x-should-retry true or false in lower case", should)


def _shape(answer: Answer) -> dict[str, Any]:
    expected = "OpenAI's error object with message, type, param and code"
    document = answer.json()
    error = document.get("error") if isinstance(document, dict) else None
    check(isinstance(error, dict) and set(error) == KEYS, expected, answer)
    assert isinstance(error, dict)
    check(isinstance(error["message"], str) and error["message"], "a message", answer)
    check(isinstance(error["type"], str) and error["type"], "a type", answer)
    for key in ("param", "code"):
        check(error[key] is None or isinstance(error[key], str), f"{key} as text or null", answer)
    media = answer.header("content-type").partition(";")[0].strip()
    check(media == "application/json", "content-type application/json", answer)
    return error


def _json(value: str | None) -> str:
    return "null" if value is None else repr(value)


def _either(statuses: tuple[int, ...]) -> str:
    return " or ".join(map(str, statuses))
