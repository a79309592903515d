"""The 500s of engines that the request is to blame for.

vLLM answers 500 where it cannot fetch media that a request names, cannot compile its schema, or reads a member that is
not there. The answer filter knows the same texts, so that no other engine is asked; here the client gets what it can
change.
"""

import re
from typing import Final

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.upstream.rules import Request, problem_by_words
from aibrix_extproc.core.openai.upstream.shapes import EngineError
from aibrix_extproc.core.openai.upstream.text import for_client

_KINDS: Final = frozenset({"InternalServerError", "api_error"})  # vLLM's own, and Anthropic's for the same
_MEDIA: Final = re.compile(
    r"Cannot connect to host|Connection timeout to host|^Server disconnected|^Timeout on reading data"
    r"|^Response payload is not completed|Max retries exceeded with url|^\d{1,3}, message='|^Cannot load local files"
    r"|^image file is truncated|^(?:broken|unrecognized) data stream|^cannot identify image file"
)
# vLLM's word for a text that the compiled schema or grammar does not let go on.
_CONSTRAINT: Final = re.compile(r"^Internal server error$|^Invalid structured outputs|^maximum recursion depth")
# Exceptions of code that reads a request. Of a None they speak where something of the engine is missing.
_READING: Final = re.compile(
    r"^'(?!NoneType')[\w.]{1,64}' object has no attribute '\w{1,64}'$|^(?:list|tuple|string) index out of range$"
)
_VERBOSE: Final = "verbose_json"

_POSITION: Final = re.compile(r" at line \d+ column \d+")
# The Rust frontend's frame around what it found wrong with a request before any engine saw it.
_BEFORE_ENGINE: Final = re.compile(
    r"^failed to submit \w+ request: (?P<said>tool parsing is disabled.*|chat template error: .*)", re.DOTALL
)


def problem_of_failure(error: EngineError, request: Request) -> Problem | None:
    """The refusal for a failure that the request has caused; None for a failure of the engine."""
    if error.type not in _KINDS:
        return None
    if _MEDIA.search(error.message):
        return Problem("invalid_image_url")
    before = _BEFORE_ENGINE.match(error.message)
    if before is not None:
        return problem_by_words(before["said"], None, request) or _template_error(before["said"], request)
    if request.constrained_by is not None and _CONSTRAINT.search(error.message):
        param = request.constraint_param
        message = f"Invalid '{param}': the engine cannot generate text that matches it."
        return Problem("invalid_value", {"message": message}, param=param)
    if request.is_form:
        return _unheard(error.message, request)
    if _READING.search(error.message):
        param = request.prompt_param
        message = f"Invalid '{param}': the engine cannot read a part of it." if param else "The engine cannot read it."
        return Problem("invalid_value", {"message": message}, param=param)
    return None


def _unheard(said: str, request: Request) -> Problem | None:
    """The refusal of a recording that the engine could not make the wanted text of."""
    if not said and not request.names_language:
        message = "Invalid 'language': the engine cannot tell the language of this recording by itself."
        return Problem("invalid_value", {"message": message}, param="language")
    if request.response_format == _VERBOSE and _READING.search(said):
        message = f"Unsupported value: 'response_format' does not support '{_VERBOSE}' with this recording."
        return Problem("unsupported_value", {"message": message}, param="response_format")
    return None


def _template_error(said: str, request: Request) -> Problem:
    """The model's chat template does not take these messages."""
    reason = for_client(_POSITION.sub("", said.removeprefix("chat template error: ")))
    param = request.prompt_param
    message = f"Invalid '{param}': {reason}" if reason else f"Invalid '{param}'."
    return Problem("invalid_value", {"message": message}, param=param)
