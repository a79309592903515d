"""The vocabulary of the reference: what a reader must know of an operation beside its row in the table.

Pure data for docs/api.md and docs/openapi.json. Fields are those that matter for routing, for the shape of the answer
or for a difference to OpenAI; others are forwarded as they are, so a list of fields is never a limit.
"""

from dataclasses import dataclass
from typing import Final

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
BYTES: Final = "application/octet-stream"
FORM: Final = "multipart/form-data"
EVENTS: Final = "text/event-stream"

KINDS: Final = frozenset({"string", "integer", "number", "boolean", "object", "array", "null", "file"})


@dataclass(frozen=True, slots=True)
class Field:
    """One member of a body, a form or a query string."""

    name: str
    kind: str  # JSON types with `|` between them; `file` in forms
    meaning: str
    required: bool = False
    default: str = ""  # as JSON
    values: tuple[str, ...] = ()  # if there are no others

    @property
    def kinds(self) -> tuple[str, ...]:
        """The types, one by one."""
        return tuple(self.kind.split("|"))


# Of every list that comes in pages, and the parameter that asks for the next one.
PAGE: Final = (
    Field("object", "string", "what this is", True, values=("list",)),
    Field("data", "array", "the objects of the page", True),
    Field("first_id", "string|null", "id of the first", True),
    Field("last_id", "string|null", "id of the last, to be sent as `after`", True),
    Field("has_more", "boolean", "whether more follow", True),
)
AFTER: Final = Field("after", "string", "id of the last object of the page before")


@dataclass(frozen=True, slots=True)
class OperationDoc:
    """What the reference says of a served operation. Sentences end without a full stop where they stand in lists."""

    summary: str
    sdk: str  # Python that sends the request; `client` is openai.OpenAI, `anthropic` is anthropic.Anthropic
    answer: tuple[Field, ...] = ()
    request: tuple[Field, ...] = ()  # of the body or form
    request_media: str = ""  # of a request without a model; others follow from where the model is
    query: tuple[Field, ...] = ()
    answer_types: tuple[str, ...] = (JSON,)  # besides the event stream; none if it always fails
    streaming: str = ""  # how to ask for a stream and what comes
    openai: tuple[str, ...] = ()  # differences to OpenAI's (or Anthropic's, Cohere's) own service
    vllm: tuple[str, ...] = ()  # differences to asking a vLLM server directly
    limits: tuple[str, ...] = ()  # beside those of every operation
