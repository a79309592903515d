"""Errors as vLLM gives them, and what the client sees of one, after checks that hold for all."""

import json
from typing import Any, Final

from aibrix_extproc.core.openai.contract.errors import Problem, error_object, shape
from aibrix_extproc.core.openai.upstream.normalize import problem_from_upstream
from tests.core.openai.upstream.refused import refused

LEAKS: Final = (
    "Valid aliases",
    "Traceback",
    ".py",
    "/usr/",
    "VLLM_",
    "--enable",
    "loc'",
    "(parameter=",
    "EngineCore",
    "10.0.",
)
CHAT: Final = "/v1/chat/completions"


def told(
    status: int,
    body: object,
    *,
    content_type: str = "application/json",
    model: str | None = "m",
    method: str = "POST",
    path: str = CHAT,
) -> tuple[Problem, dict[str, str | None]]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    problem = problem_from_upstream(status, content_type, raw, refused(path, method=method, model=model))
    fields = error_object(problem)
    assert set(fields) == {"message", "type", "param", "code"}
    assert not any(leak in (fields["message"] or "") for leak in LEAKS), fields["message"]
    assert shape(problem).status == problem.http_status
    return problem, fields


def shape_a(status: int, kind: str, message: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


def dump(kind: str, loc: str, msg: str, given: str, ctx: str = "") -> str:
    """The text that vLLM makes of FastAPI's list of errors."""
    return f"1 validation error:\n  {{'type': '{kind}', 'loc': {loc}, 'msg': {msg}, 'input': {given}{ctx}}}"
