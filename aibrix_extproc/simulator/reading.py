"""From a request's bytes to a checked body, with FastAPI's refusals."""

import json
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from aibrix_extproc.simulator.errors import UNREADABLE, EngineError, ReplyError
from aibrix_extproc.simulator.wire import Call

_Body = TypeVar("_Body", bound=BaseModel)
_ROUTERS: Final = "/usr/local/lib/python3.12/site-packages/vllm/entrypoints"


def read_body(call: Call, model: type[_Body]) -> _Body:
    """The body of a JSON request, or the refusal that vLLM would send."""
    require_json(call)
    document = _decode(call)
    try:
        # from_attributes gives lists and numbers FastAPI's error rather than pydantic's own.
        return model.model_validate(document, from_attributes=True)
    except ValidationError as error:
        raise validation_error(call, _errors_of(error)) from None


def require_json(call: Call) -> None:
    """Refuse other media types than JSON; parameters of the type are fine."""
    media = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise EngineError(400, "Bad Request", _only_json(call))


def validation_error(call: Call, errors: list[dict[str, Any]]) -> EngineError:
    """A refusal with the dump that vLLM sends, file name included."""
    plural = "s" if len(errors) != 1 else ""
    lines = "".join(f"  {error}\n" for error in errors)
    endpoint = call.path.strip("/").replace("/", "_").removeprefix("v1_")
    context = (
        f'\n  File "{_ROUTERS}/openai/api_router.py", line 41, in create_{endpoint}\n    {call.method} {call.path}'
    )
    param = ".".join(map(str, errors[0]["loc"])) if errors else None
    return EngineError(400, "Bad Request", f"{len(errors)} validation error{plural}:\n{lines}{context}", param)


def missing_field(call: Call, *names: str) -> EngineError:
    """The refusal of a request without a required field."""
    error = {"type": "missing", "loc": ("body", *names), "msg": "Field required", "input": None}
    return validation_error(call, [error])


def _decode(call: Call) -> object:
    if not call.body:
        raise missing_field(call)
    try:
        return json.loads(call.body.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise validation_error(call, [_json_error(error)]) from None
    except (ValueError, RecursionError):
        # Bad UTF-8, numbers of thousands of digits, thousands of brackets: Starlette's own answer.
        raise ReplyError(UNREADABLE) from None


def _json_error(error: json.JSONDecodeError) -> dict[str, Any]:
    return {
        "type": "json_invalid",
        "loc": ("body", error.pos),
        "msg": "JSON decode error",
        "input": {},
        "ctx": {"error": error.msg},
    }


def _errors_of(error: ValidationError) -> list[dict[str, Any]]:
    found = []
    for details in error.errors(include_url=False):
        entry = dict(details)
        entry["loc"] = ("body", *details["loc"])
        found.append(entry)
    return found


def _only_json(call: Call) -> str:
    return f"1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed\n\n    {call.path}"
