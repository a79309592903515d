"""Requests that an engine has refused, by their path."""

from aibrix_extproc.core.openai.contract.operation_rows import ROUTER
from aibrix_extproc.core.openai.contract.operations import Match
from aibrix_extproc.core.openai.upstream.rules import Request

CHAT = "/v1/chat/completions"


def refused(
    path: str = CHAT, *, method: str = "POST", model: str | None = "m", constrained_by: str | None = None
) -> Request:
    found = ROUTER.match(method, path)
    operation = found.operation if isinstance(found, Match) else None
    return Request(method, path, operation, model=model, constrained_by=constrained_by)
