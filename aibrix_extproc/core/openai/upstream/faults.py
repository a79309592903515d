"""The 500s of engines that the request is to blame for.

vLLM answers 500 where it cannot fetch media that a request names, or cannot compile its schema. The answer filter knows
the same texts, so that no other engine is asked; here the client gets what it can change.
"""

import re
from typing import Final

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.upstream.rules import Request, problem_by_words
from aibrix_extproc.core.openai.upstream.shapes import EngineError
from aibrix_extproc.core.openai.upstream.text import for_client

_KIND: Final = "InternalServerError"
_MEDIA: Final = re.compile(
    r"Cannot connect to host|Connection timeout to host|^Server disconnected|^Timeout on reading data"
    r"|^Response payload is not completed|Max retries exceeded with url|^\d{1,3}, message='|^Cannot load local files"
    r"|^image file is truncated|^(?:broken|unrecognized) data stream|^cannot identify image file"
)
# vLLM's word for a text that the compiled schema or grammar does not let go on.
_CONSTRAINT: Final = re.compile(r"^Internal server error$|^Invalid structured outputs|^maximum recursion depth")


_POSITION: Final = re.compile(r" at line \d+ column \d+")
# The Rust frontend's frame around what it found wrong with a request before any engine saw it.
_BEFORE_ENGINE: Final = re.compile(
    r"^failed to submit \w+ request: (?P<said>tool parsing is disabled.*|chat template error: .*)", re.DOTALL
)


def problem_of_failure(error: EngineError, request: Request) -> Problem | None:
    """The refusal for a failure that the request has caused; None for a failure of the engine."""
    if error.type != _KIND:
        return None
    if _MEDIA.search(error.message):
        return Problem("invalid_image_url")
    before = _BEFORE_ENGINE.match(error.message)
    if before is not None:
        return problem_by_words(before["said"], None, request) or _template_error(before["said"], request)
    if request.constrained_by is not None and _CONSTRAINT.search(error.message):
        param = request.constrained_by
        message = f"Invalid '{param}': the engine cannot generate text that matches it."
        return Problem("invalid_value", {"message": message}, param=param)
    return None


def _template_error(said: str, request: Request) -> Problem:
    """The model's chat template does not take these messages."""
    reason = for_client(_POSITION.sub("", said.removeprefix("chat template error: ")))
    param = request.prompt_param
    message = f"Invalid '{param}': {reason}" if reason else f"Invalid '{param}'."
    return Problem("invalid_value", {"message": message}, param=param)
