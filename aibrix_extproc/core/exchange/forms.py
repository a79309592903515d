"""Facts of a form that is read in steps."""

from aibrix_extproc.core.exchange.asks import BodyRead
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.wire import request
from aibrix_extproc.core.openai.wire.multipart import FormFacts, FormReader


def next_step(reader: FormReader) -> BodyRead | None:
    """Read on; None if more steps are needed."""
    fields = reader.step()
    return None if fields is None else BodyRead(form_facts(fields))


def form_facts(fields: FormFacts | Problem) -> request.RequestFacts | Problem:
    """What the fields of a form say, or why they are refused."""
    if isinstance(fields, Problem):
        return fields
    facts = request.read_fields(fields.values)
    return facts if isinstance(facts, Problem) else request.supported_format(facts)
