"""vLLM's error bodies, in all of their shapes.

A is the normal one, B comes from Starlette, C from middleware, D is Anthropic's, E Cohere's,
F comes from /pause and /resume, G is plain text. Codes are integers, as vLLM sends them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

JSON: Final = "application/json"
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP answer; an empty content type sends none."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class EngineError(Exception):
    """Ends a request with an answer in shape A, or in the shape its route prefers."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.param = param

    def reply(self) -> Reply:
        """The answer in shape A."""
        return shape_a(self.status, self.kind, self.message, self.param)


class ReplyError(Exception):
    """Ends a request with a ready answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def bad_request(message: str, param: str | None = None) -> EngineError:
    """The error of a request that vLLM understood and refuses."""
    return EngineError(400, "BadRequestError", message, param)


def bad_value(param: str, value: object, message: str) -> EngineError:
    """A refusal with the suffix that vLLM's VLLMValidationError adds."""
    return bad_request(f"{message} (parameter={param}, value={value})", param)


def bad_parameter(param: str, message: str) -> EngineError:
    """The same without a value."""
    return bad_request(f"{message} (parameter={param})", param)


def not_found(message: str, param: str | None = None, kind: str = "NotFoundError") -> EngineError:
    """The error of a name that is not known."""
    return EngineError(404, kind, message, param)


def dump(value: object) -> bytes:
    """JSON as Starlette writes it."""
    return _ENCODER.encode(value).encode("utf-8", "replace")


def error_object(status: int, kind: str, message: str, param: str | None = None) -> dict[str, object]:
    """Shape A as an object; also the payload of an error event."""
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


def shape_a(status: int, kind: str, message: str, param: str | None = None) -> Reply:
    """The normal shape, vLLM's own."""
    return Reply(status, dump(error_object(status, kind, message, param)))


def shape_b(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Reply:
    """Starlette's errors."""
    return Reply(status, dump({"detail": detail}), headers=headers or {})


def shape_c(status: int, message: str) -> Reply:
    """Errors of middleware."""
    return Reply(status, dump({"error": message}))


def shape_d(status: int, kind: str, message: str) -> Reply:
    """Anthropic's errors."""
    return Reply(status, dump({"type": "error", "error": {"type": kind, "message": message}}))


def shape_e(status: int, message: str) -> Reply:
    """Cohere's errors."""
    return Reply(status, dump({"message": message, "id": "simulated"}))


def shape_g(status: int, message: str) -> Reply:
    """Plain text."""
    return Reply(status, message.encode(), "text/plain; charset=utf-8")


UNAUTHORIZED: Final = shape_c(401, "Unauthorized")
UNREADABLE: Final = shape_b(400, "There was an error parsing the body")
NOT_FOUND: Final = shape_b(404, "Not Found")
CORS_REFUSED: Final = Reply(
    400,
    b"Disallowed CORS origin",
    "text/plain; charset=utf-8",
    {
        "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, "
        "Access-Control-Request-Private-Network",
        "Access-Control-Allow-Methods": "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, QUERY",
        "Access-Control-Max-Age": "600",
    },
)

BUSY_MESSAGE: Final = (
    "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
)


def busy() -> EngineError:
    """The refusal of a full queue."""
    return EngineError(503, "Service Unavailable", BUSY_MESSAGE)


def generation_paused() -> EngineError:
    """The refusal of vLLM 0.33 while it is paused."""
    message = "Generation is paused. Please retry after it resumes."
    return EngineError(503, "ServiceUnavailableError", message)


def shaped(shape: str, status: int, message: str) -> Reply:
    """An error in a named shape, for fault injection."""
    kinds = {400: "BadRequestError", 404: "NotFoundError", 501: "NotImplementedError", 503: "ServiceUnavailableError"}
    if shape == "B":
        return shape_b(status, message)
    if shape in ("C", "F"):
        return shape_c(status, message)
    if shape == "D":
        return shape_d(status, "api_error" if status >= 500 else "invalid_request_error", message)
    if shape == "E":
        return shape_e(status, message)
    if shape == "G":
        return shape_g(status, message)
    return shape_a(status, kinds.get(status, "InternalServerError"), message)
