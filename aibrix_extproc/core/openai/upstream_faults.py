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


def problem_of_failure(error: EngineError, request: Request) -> Problem | None:
    """The refusal for a failure that the request has caused; None for a failure of the engine."""
    if error.type != _KIND:
        return None
    if _MEDIA.search(error.message):
        return Problem("invalid_image_url")
    return None
