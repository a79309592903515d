"""The 500s of engines that the request is to blame for.

vLLM answers 500 where it cannot fetch media that a request names, or cannot compile its schema. The answer filter knows
the same texts, so that no other engine is asked; here the client is told what it can change.
"""

import re
from typing import Final

from aibrix_extproc.core.openai.errors import Problem
from aibrix_extproc.core.openai.upstream_rules import Request
from aibrix_extproc.core.openai.upstream_shapes import EngineError

_KIND: Final = "InternalServerError"
_MEDIA: Final = re.compile(
    r"Cannot connect to host|Connection timeout to host|^Server disconnected|^Timeout on reading data"
    r"|^\d{3}, message='|^Cannot load local files"
)
# vLLM's word for a text that the compiled schema or grammar does not let go on.
_CONSTRAINT: Final = re.compile(r"^Internal server error$|^Invalid structured outputs|^maximum recursion depth")


def problem_of_failure(error: EngineError, request: Request) -> Problem | None:
    """The refusal for a failure that the request has caused; None for a failure of the engine."""
    if error.type != _KIND:
        return None
    if _MEDIA.search(error.message):
        return Problem("invalid_image_url")
    if request.constrained_by is not None and _CONSTRAINT.search(error.message):
        param = request.constrained_by
        message = f"Invalid '{param}': the engine cannot generate text that matches it."
        return Problem("invalid_value", {"message": message}, param=param)
    return None
