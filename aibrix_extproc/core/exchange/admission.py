"""Checks of a request's head: what is refused before the body is read."""

from collections.abc import Mapping

from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.openai.contract import headers
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import Action, ModelIn, Operation, shown, unknown_url

# Looking up an enum member by name takes ten times as long as a name of the module.
_ROUTE, _STICKY, _FORM = Action.ROUTE, Action.STICKY, ModelIn.FORM
_BODILESS = frozenset({"GET", "DELETE"})


def refusal_from_head(
    operation: Operation, request: Mapping[str, str], path: str, *, end_of_stream: bool, policy: ExchangePolicy
) -> Problem | None:
    """The refusal of a matched request, or None to go on."""
    if operation.action is not _ROUTE and operation.action is not _STICKY:
        return unknown_url(operation.method, path)
    encoding = request.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        return Problem("unsupported_content_encoding", {"given": shown(encoding, 64)})
    if operation.action is _ROUTE:
        wrong = _wrong_content_type(operation, request.get("content-type", ""), end_of_stream=end_of_stream)
        if wrong is not None:
            return wrong
    return too_large(operation, headers.content_length(request), policy)


def asks_for_upgrade(request: Mapping[str, str]) -> bool:
    """Whether the request asks to switch protocols. Envoy speaks HTTP/1.1's way to us whatever the client speaks."""
    return "upgrade" in request and "upgrade" in request.get("connection", "").lower()


def needs_body(operation: Operation, *, end_of_stream: bool) -> bool:
    """Whether placement needs the body. A path that names a stored response is enough by itself."""
    return operation.action is _ROUTE or not (end_of_stream or operation.method in _BODILESS)


def _wrong_content_type(operation: Operation, given: str, *, end_of_stream: bool) -> Problem | None:
    form = operation.model_in is _FORM
    if end_of_stream:
        return Problem("malformed_multipart", {"reason": "the body is empty"}) if form else Problem("malformed_json")
    accepted = "multipart/form-data" if form else "application/json"
    if given.partition(";")[0].strip().lower() == accepted:
        return None
    return Problem("unsupported_content_type", {"given": shown(given, 128), "accepted": accepted})


def too_large(operation: Operation, size: int, policy: ExchangePolicy) -> Problem | None:
    """The 413 for a body of this size, as OpenAI words it for audio."""
    if operation.model_in is _FORM and size > policy.max_audio_bytes:
        return Problem("audio_too_large", {"limit": str(policy.max_audio_bytes), "size": str(size)})
    if size > policy.max_body_bytes:
        return Problem("request_too_large", {"limit": str(policy.max_body_bytes)})
    return None
