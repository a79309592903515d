"""The vocabulary of an operation (one row of the public interface) and the matching of requests to rows.

The rows themselves stand in `rows/`; `operation_rows` joins them. A path is matched after `paths.normalise`; the
longest literal template wins over one with a parameter, so `/v1/responses/input_tokens` is never taken for a
response id.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.paths import MAX_PATH_CHARACTERS, has_dot_segments


class Action(StrEnum):
    """What the gateway does with an operation."""

    ROUTE = "route by model"  # to an engine that serves the model
    STICKY = "route to owner"  # to the engine that holds the object
    LOCAL = "answer here"  # from what the gateway knows
    METADATA = "metadata service"  # files, uploads, batches
    ADMIN = "admin only"  # an engine's operational interface, never for user keys
    REFUSE = "refuse"  # no part of the fleet has it: 404 as for an unknown URL


class Role(StrEnum):
    """Who may use an operation, and what a caller is."""

    USER = "user"
    OPERATOR = "operator"  # and callers with that role whose `operations` name the row; administrators always may
    ADMIN = "admin"


class ModelIn(StrEnum):
    """Where the model's name stands."""

    NONE = "-"
    JSON = "JSON body"
    FORM = "form field"
    PATH = "path"
    QUERY = "query"


class Stream(StrEnum):
    """How the operation streams when it does."""

    NONE = "-"
    DATA_DONE = "data: chunks, then [DONE]"
    TYPED = "typed events"
    ANTHROPIC = "Anthropic events"
    TRANSCRIPT = "transcript events"


class UsageIn(StrEnum):
    """Where the answer says what it cost."""

    NONE = "-"
    USAGE = "usage"
    RESPONSE_USAGE = "response.usage"
    MESSAGE_USAGE = "usage of message events"
    INPUT_TOKENS = "input_tokens"


class Local(StrEnum):
    """Which answer of the gateway's own it is."""

    LIST_MODELS = "list of models"
    RETRIEVE_MODEL = "one model"
    DELETE_MODEL = "refusal to delete a model"
    HEALTH = "health of the gateway"
    LIST_INTERFACES = "list of interfaces"
    RETRIEVE_INTERFACE = "one interface"
    OPENAPI = "OpenAPI document"
    VERSION = "version of the gateway"


@dataclass(frozen=True, slots=True)
class Operation:
    """One row: method and path template, and what happens to a request that matches.

    Code asks columns, never ids or paths: what an operation is treated by stands in its row.
    """

    id: str
    method: str
    path: str  # `{name}` is one segment, `{name...}` the rest of the path
    _: KW_ONLY
    action: Action
    local: Local | None = None  # of an operation that is answered here
    role: Role = Role.USER  # for all others than these it is an unknown URL
    is_free: bool = False  # whether it takes nothing from the caller's limits, although others of its action do
    # The request.
    model_in: ModelIn = ModelIn.NONE
    tasks: frozenset[str] = frozenset()  # engines must do one of these; empty: any
    prompt_param: str | None = None  # the field that OpenAI names when the prompt is too long
    engine_path: str | None = None  # where engines have it, if elsewhere
    lacking_frontends: frozenset[str] = frozenset()  # of engines that do not have it, though their task is right
    # Members that a prefill engine gets as 1, as it makes no answer; the first is written where there is none of them.
    # Empty: another engine cannot compute the prompt.
    answer_limits: tuple[str, ...] = ()
    batch_name: str = ""  # as errors of OpenAI's Batch API call it; empty: a batch may not ask it
    # The answer.
    stream: Stream = Stream.NONE
    usage_in: UsageIn = UsageIn.NONE
    never_short: bool = False  # whether a short whole answer with a success may be an engine's error
    makes_response: bool = False  # whether it makes a response: an object with an id of ours, which requests can name
    # Errors.
    anthropic: bool = False  # whether they take Anthropic's shape
    # An engine's name of a field -> its name here.
    field_names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    logprobs_param: str = "top_logprobs"  # the field to blame for too many of them
    errors: tuple[str, ...] = ()  # rows of ERRORS that not every operation with this action can give
    # The reference.
    note: str = ""

    @property
    def generates(self) -> bool:
        """Whether engines answer it with text that they generate, so that prompts which begin alike share a cache."""
        return "generate" in self.tasks


@dataclass(frozen=True, slots=True)
class Match:
    """An operation with the parameters of its path."""

    operation: Operation
    parameters: Mapping[str, str]


_NO_PARAMETERS: Final[Mapping[str, str]] = MappingProxyType({})


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template).replace(r"\{", "{").replace(r"\}", "}").replace(r"\.\.\.", "...")
    escaped = re.sub(r"\{(\w+)\.\.\.\}", r"(?P<\1>.+)", escaped)
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", escaped))


class Router:
    """Finds the row for a method and a normalised path."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._exact: dict[str, dict[str, Match]] = {}
        self._patterns: dict[str, tuple[re.Pattern[str], dict[str, Operation]]] = {}
        for operation in operations:
            if "{" in operation.path:
                found = self._patterns.setdefault(operation.path, (_pattern(operation.path), {}))
                found[1][operation.method] = operation
            else:
                self._exact.setdefault(operation.path, {})[operation.method] = Match(operation, _NO_PARAMETERS)

    def match(self, method: str, path: str) -> Match | Problem:
        """The row, or the 404 or 405 that the client gets. `path` is normalised."""
        methods = self._exact.get(path)
        if methods is not None:
            found = methods.get(method)
            return found if found is not None else _refusal(method, path, (row.operation for row in methods.values()))
        if len(path) > MAX_PATH_CHARACTERS or has_dot_segments(path):
            return unknown_url(method, path)  # an engine might resolve what we only match
        for pattern, rows in self._patterns.values():
            parts = pattern.fullmatch(path)
            if parts is not None:
                operation = rows.get(method)
                if operation is None:
                    return _refusal(method, path, rows.values())
                return Match(operation, MappingProxyType(parts.groupdict()))
        return unknown_url(method, path)


def _refusal(method: str, path: str, rows: Iterable[Operation]) -> Problem:
    public = (row for row in rows if row.action not in (Action.REFUSE, Action.ADMIN) and row.role is Role.USER)
    allowed = sorted({row.method for row in public})
    if not allowed:
        return unknown_url(method, path)
    return Problem(
        "method_not_allowed", {"method": shown(method), "path": shown(path)}, headers=(("allow", ", ".join(allowed)),)
    )


def unknown_url(method: str, path: str) -> Problem:
    """The 404 for a path that no row has, or that this caller may not see."""
    key = "unknown_url" if path == "/v1" or path.startswith("/v1/") else "unknown_url_outside"
    return Problem(key, {"method": shown(method), "path": shown(path)})


def shown(text: str, limit: int = 256) -> str:
    """A client's own words as they may be repeated to it: printable and bounded."""
    cut = text if len(text) <= limit else text[:limit] + "..."
    return "".join(char if char.isprintable() else "?" for char in cut)
