"""Reads a form in one go."""

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.wire.multipart import FormFacts, FormReader


def form_fields(content_type: str, body: bytes | bytearray | memoryview) -> FormFacts | Problem:
    """The fields and files of a form, or the refusal."""
    reader = FormReader(content_type, body)
    while (found := reader.step()) is None:
        pass
    return found
