"""Turns the error answer of an engine into a problem for the client.

The client learns what it can change: its request. Whatever the engine says about itself stays inside, and a status
that blames the gateway (its key was refused, say) never becomes the client's fault.
"""

import re
from typing import Final

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import shown, unknown_url
from aibrix_extproc.core.openai.upstream.faults import problem_of_failure
from aibrix_extproc.core.openai.upstream.fields import (
    joined,
    looks_like_dump,
    own_words,
    problem_from_fields,
    read_dump,
    read_list,
)
from aibrix_extproc.core.openai.upstream.python import problem_of_exception
from aibrix_extproc.core.openai.upstream.rules import (
    Request,
    named_here,
    problem_by_words,
    unknown_model,
    unreadable,
    wrong_task,
)
from aibrix_extproc.core.openai.upstream.serde import problem_of_serde
from aibrix_extproc.core.openai.upstream.shapes import EngineError, Shape, read_engine_error
from aibrix_extproc.core.openai.upstream.text import for_client
from aibrix_extproc.core.openai.upstream.unions import decisive

_REFUSED: Final = "The engine refused the request."
_PARAM_SUFFIX: Final = re.compile(r" \(parameter=([\w.\[\]-]{1,128})(?=[,)])")
# The engine's sampling checks name their field only in words.
_SPOKEN_PARAM: Final = re.compile(
    r"(n|temperature|top_p|top_k|min_p|seed|stop|best_of|bad_words|(?:top_|prompt_)?logprobs|(?:min|max)_tokens"
    r"|(?:presence|frequency|repetition|length)_penalty|logit_bias|(?:allowed|stop)_token_ids|truncate_prompt_tokens"
    r"|structured_outputs(?:\.\w{1,32})?|tool_choice)"
    r" (?:must |cannot |can only |is only |should |requires |function |contains )"
)
# The same for its vocabulary checks.
_NAMED_LATER: Final = re.compile(r"^token_id\(s\) \[[\d, -]{0,2048}\] in (\w{1,64}) ")
_INDEX: Final = re.compile(r"\[(\d+)\]")
_OWN_NAMES: Final = {"audio_filesize_mb": "file"}  # an engine's names for OpenAI's fields
_MISSING_OBJECT: Final = re.compile(r"not found|does not exist|cannot be found|no \w+ found", re.IGNORECASE)

# Statuses that the answer filter gives an attempt so that Envoy does not try another one.
_NOT_AGAIN: Final = 520  # a 500 that other engines would repeat
_NOWHERE_ELSE: Final = 530  # the only engine has gone to rest in the middle of its answer
_LOST_RESPONSE: Final = re.compile(r"Response with id '([^']{0,512})' not found")

# Statuses that mean the same whatever the body says. 401: the gateway's key was refused. 407 and 511: a proxy's.
_BY_STATUS: Final = {
    401: "upstream_error",
    407: "upstream_error",
    408: "timeout",  # a 408 would make SDKs repeat the request at once
    431: "headers_too_large",
    502: "bad_gateway",
    503: "overloaded",
    504: "timeout",
    524: "timeout",
    529: "overloaded",
}


def problem_from_upstream(
    status: int,
    content_type: str,
    body: bytes,
    request: Request,
) -> Problem:
    """The problem that stands for an engine's error (or for an error at status 200)."""
    error = read_engine_error(content_type, body)
    return _problem(_meant_status(status, error), error, request)


def _meant_status(status: int, error: EngineError) -> int:
    if status >= 400:
        return status
    return error.number if error.number is not None and 400 <= error.number <= 599 else 500


def _problem(status: int, error: EngineError, request: Request) -> Problem:
    key = _BY_STATUS.get(status)
    if key is not None:
        return Problem(key)
    if status == _NOWHERE_ELSE:
        return Problem("model_not_ready", {"model": request.model or ""})
    if status == 405:  # the gateway knows the methods of a route: an engine's 405 is a route that it lacks
        return wrong_task(request)
    if status >= 500:
        return _failed(status, error, request)
    match status:
        case 403:
            return _forbidden(error, request)
        case 404:
            return _not_found(error, request)
        case 409:
            return Problem("conflict", {"message": _words(error)}, param=_param(error))
        case 413:
            return Problem(
                "bad_request", {"message": "Request body is too large."}, code="request_too_large", status=413
            )
        case 429:
            return Problem("rate_limited", {"message": _words(error, "Rate limit reached. Please try again in 1s.")})
    return _refused(error, request)


def _failed(status: int, error: EngineError, request: Request) -> Problem:
    if status == 501:
        return problem_by_words(error.message, None, request) or wrong_task(request)
    blamed = problem_of_failure(error, request)
    if blamed is not None:
        return blamed
    # Several engines have failed with the request, or would: a client that repeats it only makes it worse.
    return Problem("upstream_error", headers=(("x-should-retry", "false"),) if status == _NOT_AGAIN else ())


def _forbidden(error: EngineError, request: Request) -> Problem:
    # The engine's own 403 hides routes for its peers; any other comes from a proxy that refused the gateway.
    if error.type == "PermissionDeniedError":
        return unknown_url(request.method, request.path)
    return Problem("upstream_error")


def _not_found(error: EngineError, request: Request) -> Problem:
    known = problem_by_words(error.message, _param(error), request)
    if known is not None and known.http_status == 404:
        return known
    if error.param == "model":
        return unknown_model(error.message, request)
    lost = _LOST_RESPONSE.match(error.message)
    if lost is not None and request.makes_response:
        return Problem("previous_response_not_found", {"response_id": shown(lost[1], 128)})
    if error.shape in (Shape.ERROR_OBJECT, Shape.FLAT) and _MISSING_OBJECT.search(error.message):
        return Problem("not_found", {"message": _words(error)}, param=_param(error), code=error.code)
    return wrong_task(request)


def _refused(error: EngineError, request: Request) -> Problem:
    """400, 422 and whatever other refusal of the request: the client sees a 400."""
    fields = read_list(error.fields) or read_dump(error.message)
    if not fields:
        return _by_message(error, request)
    said = own_words(fields[0])
    if said is not None:
        named = error.param if error.param != "body" else None
        return _by_message(EngineError(Shape.TEXT, said, _suffix_param(said) or fields[0].param or named), request)
    problem = problem_from_fields(decisive(fields), request.prompt_param)
    return unreadable(request) if problem.key == "malformed_json" else problem


def _by_message(error: EngineError, request: Request) -> Problem:
    param = named_here(_param(error), error.message, request)
    known = problem_by_words(error.message, param, request)
    known = known or problem_of_serde(error.message) or problem_of_exception(error.message, param, request.prompt_param)
    if known is not None:
        return known
    if error.param == "body":
        return unreadable(request)
    if looks_like_dump(error.message):
        return _invalid(param, None)
    return _invalid(param, error) if param is not None else _bad_request(error)


def _invalid(param: str | None, error: EngineError | None) -> Problem:
    message = for_client(error.message) if error is not None else ""
    if not message:
        message = f"Invalid value for '{param}'." if param else "The request has a field with an invalid value."
    return Problem("invalid_value", {"message": message}, param=param, code=error.code if error else None)


def _bad_request(error: EngineError) -> Problem:
    return Problem("bad_request", {"message": _words(error)}, code=error.code)


def _words(error: EngineError, default: str = _REFUSED) -> str:
    return for_client(error.message) or default


def _param(error: EngineError) -> str | None:
    named = error.param or _suffix_param(error.message)
    if named is None:
        return None
    param = joined(_INDEX.sub(r".\1", named).split("."))
    return _OWN_NAMES.get(param, param) if param else None


def _suffix_param(message: str) -> str | None:
    found = _PARAM_SUFFIX.search(message) or _SPOKEN_PARAM.match(message) or _NAMED_LATER.match(message)
    return found[1] if found else None
