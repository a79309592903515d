"""Cases for each documented field of a request: a good value is taken, one of a wrong type refused in OpenAI's words.

`fields.json` is written by `make fields` from the table of fields, with what an engine was measured to do. A value that
passes where it should not is one that a program's bug hides behind.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.resources import files
from typing import Any, Final

from aibrix_extproc.conformance import samples
from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Case, Inapplicable, Mismatch, Need
from aibrix_extproc.conformance.expect import TOO_MANY, expect_error, expect_status
from aibrix_extproc.conformance.wire import Answer

GROUP: Final = "fields"
TAKEN: Final = "values of a wrong type are taken"
NOT_TAKEN: Final = "good values are refused"
BROKEN: Final = "a value of a wrong type makes an error of the server"
REFUSED: Final = (400, 422)
_UNSUPPORTED: Final = ("unsupported_parameter", "unsupported_value")  # codes of OpenAI's own models as well

# operation -> path, what it needs, a small good request without its model
_OPERATIONS: Final[Mapping[str, tuple[str, Need, Mapping[str, Any]]]] = {
    "chat_completion": ("/v1/chat/completions", Need.CHAT, {"messages": list(samples.HELLO), "max_tokens": 4}),
    "completion": ("/v1/completions", Need.CHAT, {"prompt": "Say hello.", "max_tokens": 4}),
    "response": ("/v1/responses", Need.RESPONSES, {"input": "Say hello.", "max_output_tokens": 16}),
    "embedding": ("/v1/embeddings", Need.EMBEDDING, {"input": "hello"}),
    "tokenize": ("/tokenize", Need.CHAT, {"prompt": "hello"}),
}


@cache
def field_cases() -> tuple[Case, ...]:
    """The cases, by operation and field."""
    told = json.loads((files(__package__) / "fields.json").read_text("utf-8"))
    return (
        *(_case(operation, field, value, own=field in told["own"][operation])
          for operation, fields in told["operations"].items()
          for field, value in fields.items()),
        *(_good_case(operation, field, request) for operation, fields in told["good"].items()
          for field, request in fields.items()),
    )  # fmt: skip


def _case(operation: str, field: str, value: Any, *, own: bool) -> Case:
    path, need, _ = _OPERATIONS[operation]
    check: Callable[[Bench], None] = partial(_check, operation, field, value, own)
    title = f"{json.dumps(value)} as {field} of {path}"
    return Case(f"{operation}.{field}", title, f"400 with param {field}", check, (need,))


def _good_case(operation: str, field: str, request: Mapping[str, Any]) -> Case:
    path, need, _ = _OPERATIONS[operation]
    title = f"a good {field} in {path}"
    return Case(f"{operation}.{field}.good", title, "200", partial(_check_good, operation, field, request), (need,))


def _check_good(operation: str, field: str, request: Mapping[str, Any], bench: Bench) -> None:
    path, need, _ = _OPERATIONS[operation]
    answer = bench.post(path, {"model": bench.model(need), **request})
    if answer.status in REFUSED and _is_unsupported(answer, field):
        raise Inapplicable(f"the deployment says that it does not support this {field}")
    if answer.status >= 400 and answer.status != TOO_MANY:
        raise Mismatch("a 200", str(answer), NOT_TAKEN)
    expect_status(answer, 200)


def _is_unsupported(answer: Answer, field: str) -> bool:
    body = answer.json()
    error = body.get("error") if isinstance(body, dict) else None
    return isinstance(error, dict) and error.get("code") in _UNSUPPORTED and error.get("param") == field


def _check(operation: str, field: str, value: Any, own: bool, bench: Bench) -> None:
    path, need, request = _OPERATIONS[operation]
    answer = bench.post(path, {"model": bench.model(need), **request, field: value})
    if answer.status == TOO_MANY:
        expect_status(answer, *REFUSED)  # says that it is limited
    if answer.status < 400 and own:
        raise Inapplicable(
            f"{field} is vLLM's, and this deployment takes any value, as of fields that it does not know"
        )
    if answer.status < 400:
        raise Mismatch(f"a 400 with param {field}", str(answer), TAKEN)
    if answer.status >= 500:
        raise Mismatch(f"a 400 with param {field}", str(answer), BROKEN)
    expect_error(answer, *REFUSED)  # first what is wrong with errors of all kinds
    expect_error(answer, *REFUSED, param=field)
