"""From a request's bytes to a checked body, with FastAPI's refusals."""

import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from aibrix_extproc.simulator.engine_fields import form_fields, other_fields
from aibrix_extproc.simulator.errors import UNREADABLE, EngineError, ReplyError
from aibrix_extproc.simulator.wire import Call

_Body = TypeVar("_Body", bound=BaseModel)
_SHOWN_ERRORS: Final = 10
_NUMBERS: Final = frozenset({
    "stream", "stream_include_usage", "stream_continuous_usage_stats", "temperature", "top_p", "top_k", "min_p", "seed",
    "frequency_penalty", "presence_penalty", "repetition_penalty", "max_completion_tokens", "n", "use_beam_search",
    "length_penalty", "include_stop_str_in_output", "watermarking",
})  # fmt: skip
_UNION_MEMBERS: Final = frozenset({"str", "NamedTool"})


def read_body(call: Call, model: type[_Body]) -> _Body:
    """The body of a JSON request, or the refusal that vLLM would send."""
    require_json(call)
    document = _decode(call)
    try:
        # from_attributes gives lists and numbers FastAPI's error rather than pydantic's own.
        body = model.model_validate(document, from_attributes=True)
        if body.model_extra and (others := other_fields(model)):
            others.model_validate(body.model_extra)
    except ValidationError as error:
        raise validation_error(_errors_of(error)) from None
    return body


def read_embedded(call: Call, model: type[_Body]) -> _Body:
    """The same of a route whose parameters FastAPI embeds in a body: it names their input differently."""
    document = _decode(call) if call.body else {}
    try:
        return model.model_validate(document)
    except ValidationError as error:
        errors = _errors_of(error)
        for one in errors:
            if one["type"] == "missing":
                one["input"] = None
        raise validation_error(errors) from None


def check_form(values: Mapping[str, str], operation: str) -> Mapping[str, Any]:
    """The numbers and booleans of a form, or the refusal of a text that is none."""
    model = form_fields(operation)
    try:
        read = model.model_validate({name: text for name, text in values.items() if name in _NUMBERS})
    except ValidationError as error:
        raise validation_error(_errors_of(error)) from None
    return read.model_dump(exclude_unset=True)


def require_json(call: Call) -> None:
    """Refuse other media types than JSON; parameters of the type are fine."""
    media = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        raise EngineError(400, "Bad Request", message)


def validation_error(errors: list[dict[str, Any]]) -> EngineError:
    """A refusal with the dump that vLLM sends: ten errors at most, values shortened."""
    plural = "s" if len(errors) != 1 else ""
    lines = [f"  {_shown(error)}" for error in errors[:_SHOWN_ERRORS]]
    if len(errors) > _SHOWN_ERRORS:
        lines.append(f"  ...and {len(errors) - _SHOWN_ERRORS} more errors")
    message = "\n".join((f"{len(errors)} validation error{plural}:", *lines))
    return EngineError(400, "Bad Request", message, _dotted(errors[0]["loc"]))


def missing_field(*names: str) -> EngineError:
    """The refusal of a request without a required field."""
    return validation_error([{"type": "missing", "loc": ("body", *names), "msg": "Field required", "input": None}])


def _decode(call: Call) -> object:
    if not call.body:
        raise missing_field()
    try:
        document: object = json.loads(call.body.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise validation_error([_json_error(error)]) from None
    except (ValueError, RecursionError):
        # Bad UTF-8, numbers of thousands of digits, thousands of brackets: Starlette's own answer.
        raise ReplyError(UNREADABLE) from None
    if document is None:
        raise missing_field()
    return document


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


def _shown(error: dict[str, Any]) -> dict[str, Any]:
    value = error["input"]
    if isinstance(value, dict | list):
        value = f"<{type(value).__name__} of {len(value)} items>"
    return {**error, "loc": _dotted(error["loc"]), "input": str(value)}


def _dotted(loc: tuple[object, ...]) -> str:
    """A location without the names that pydantic gives to the members of a union."""
    parts = [str(part) for part in loc]
    return ".".join(part for part in parts if part not in _UNION_MEMBERS and "[" not in part)
