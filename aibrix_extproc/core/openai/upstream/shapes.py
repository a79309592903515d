"""Reads an engine's error body, whatever its shape, into message, param, type and code.

vLLM has several: {"error": {...}}, {"detail": ...}, {"error": "text"}, Anthropic's and Cohere's, a flat object, plain
text; proxies before it add HTML and nothing at all. A body may be cut short, since validation errors repeat the prompt.
"""

import json
import re
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

MAX_BODY_BYTES: Final = 65_536
MAX_MESSAGE_CHARS: Final = 8192  # what matters stands at the beginning; the rest is the repeated prompt

_MESSAGE_IN_CUT_JSON: Final = re.compile(r'"(?:message|detail|error)"\s*:\s*"((?:[^"\\]|\\.){0,8192}+)', re.DOTALL)
_PARAM_IN_CUT_JSON: Final = re.compile(r'"param"\s*:\s*"([^"\\]{1,128})"')
_HTML: Final = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml|h1|center|title)\b", re.IGNORECASE)
_STRING_CODE: Final = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")


class Shape(Enum):
    """Where in the body the message stood."""

    ERROR_OBJECT = auto()  # {"error": {"message", "type", "param", "code"}}, also Anthropic's
    ERROR_TEXT = auto()  # {"error": "..."}: vLLM's middleware, /pause and /resume
    DETAIL = auto()  # {"detail": ...}: Starlette and FastAPI, so no handler of the engine's API was reached
    FLAT = auto()  # {"message": ...}: Cohere's, and engines of old
    TEXT = auto()
    HTML = auto()
    EMPTY = auto()


@dataclass(frozen=True, slots=True)
class EngineError:
    """What an error body says, in the engine's own words."""

    shape: Shape
    message: str = ""
    param: str | None = None
    type: str = ""
    code: str | None = None  # only codes that are names
    number: int | None = None  # codes that are numbers: the status, for vLLM
    fields: tuple[Any, ...] = field(default=())  # FastAPI's list of refused fields


def read_engine_error(content_type: str, body: bytes) -> EngineError:
    """What the body says; never fails."""
    text = body[:MAX_BODY_BYTES].decode("utf-8", "replace").lstrip("\ufeff").strip()
    if not text:
        return EngineError(Shape.EMPTY)
    if "html" in content_type.lower() or _HTML.match(text):
        return EngineError(Shape.HTML)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return _from_broken(text)
    if isinstance(document, dict):
        return _from_object(document)
    return EngineError(Shape.TEXT, _text(document))


def is_error(body: bytes) -> bool:
    """Whether a whole body that came with a success is an error all the same; never fails."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(document, dict):
        return False
    error = document.get("error")  # null in every good answer of the Responses API
    return (isinstance(error, dict | str) and bool(error)) or document.get("object") == "error"


def _from_object(document: dict[str, Any]) -> EngineError:
    error = document.get("error")
    if isinstance(error, dict):
        return _from_fields(Shape.ERROR_OBJECT, error)
    if isinstance(error, str):
        return EngineError(Shape.ERROR_TEXT, _text(error))
    if "detail" in document:
        return _from_detail(document["detail"])
    if "message" in document:
        return _from_fields(Shape.FLAT, document)
    return EngineError(Shape.EMPTY)


def _from_detail(detail: Any) -> EngineError:
    if isinstance(detail, list):
        return EngineError(Shape.DETAIL, fields=tuple(detail))
    if isinstance(detail, dict):
        return _from_fields(Shape.DETAIL, detail)
    return EngineError(Shape.DETAIL, _text(detail))


def _from_fields(shape: Shape, fields: dict[str, Any]) -> EngineError:
    code = fields.get("code")
    number = code if isinstance(code, int) and not isinstance(code, bool) else None
    return EngineError(
        shape,
        _text(fields.get("message")),
        fields["param"] if isinstance(fields.get("param"), str) else None,
        _text(fields.get("type")),
        code if isinstance(code, str) and len(code) <= 64 and _STRING_CODE.fullmatch(code) else None,
        number,
    )


def _from_broken(text: str) -> EngineError:
    if not text.startswith(("{", "[")):
        return EngineError(Shape.TEXT, _text(text))
    message = _MESSAGE_IN_CUT_JSON.search(text)
    if message is None:
        return EngineError(Shape.EMPTY)
    param = _PARAM_IN_CUT_JSON.search(text, message.end())
    return EngineError(Shape.ERROR_OBJECT, _text(_unescaped(message[1])), param[1] if param else None)


def _unescaped(escaped: str) -> str:
    """A JSON string's inside as text; its last escape may be cut short."""
    for shorter in range(min(len(escaped), 6) + 1):
        try:
            return str(json.loads(f'"{escaped[: len(escaped) - shorter]}"', strict=False))
        except ValueError:
            continue
    return ""


def _text(value: Any) -> str:
    return value[:MAX_MESSAGE_CHARS] if isinstance(value, str) else ""
