"""Which errors an operation can give, by what causes them: data for the reference, compared with the code by a test."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.error_row import Cause
from aibrix_extproc.core.openai.contract.errors import ERRORS
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Action, ModelIn, Operation, Role, Stream


@dataclass(frozen=True, slots=True)
class CauseRow:
    """A place that errors come from, as the reference describes it."""

    title: str
    meaning: str


CAUSES: Final[Mapping[Cause, CauseRow]] = MappingProxyType({
    Cause.KEY: CauseRow(
        "Key",
        "The key is looked at before anything else, so a bad one is a 401 everywhere, also for an unknown URL.",
    ),
    Cause.LIMITS: CauseRow(
        "Limits", "What the key, the caller or the model may use is used up (docs/limits.md). Only of limited callers."
    ),
    Cause.ADDRESS: CauseRow("Address", "No operation has the method and path."),
    Cause.PROTOCOL: CauseRow("Protocol", "What is asked of HTTP itself."),
    Cause.HEALTH: CauseRow("Health", "The health path, which no operation has."),
    Cause.BODY: CauseRow("Body", "Looked at before an engine is chosen."),
    Cause.JSON: CauseRow("JSON", "A body that must be a JSON object with a model."),
    Cause.FORM: CauseRow("Form", "A body that must be a form with a model."),
    Cause.PLACEMENT: CauseRow("Placement", "No engine may take the request."),
    Cause.OWNER: CauseRow("Owner", "The engine that has the object cannot be asked."),
    Cause.REFUSAL: CauseRow(
        "Engine's refusal",
        "The engine looked at the request and refused it. Its words are kept where they speak about the request.",
    ),
    Cause.FAILURE: CauseRow(
        "Failure",
        "An engine, or the way to it, failed before the answer began. Other engines have been tried where that helps.",
    ),
    Cause.MODELS: CauseRow("Model", "Answered from what the gateway knows of the fleet."),
    Cause.STORED: CauseRow("Stored object", "The metadata service refused the request."),
    Cause.SERVICE: CauseRow("Metadata service", "The service cannot be reached, or there is none."),
    Cause.ENGINES: CauseRow(
        "Operated engines", "No engine can be chosen for an engine operation, or they did not all do it alike."
    ),
    Cause.GATEWAY: CauseRow("Gateway", "Envoy or the gateway itself, whatever was asked."),
})  # fmt: skip

# Of these causes an operation has the errors that its row names, and those that no row names.
_BY_ROW: Final = frozenset({Cause.MODELS, Cause.STORED, Cause.ENGINES})
_NAMED_BY_ROWS: Final = frozenset(key for row in OPERATIONS for key in row.errors)


def errors_with(cause: Cause) -> tuple[str, ...]:
    """All errors that have a cause."""
    return tuple(key for key, row in ERRORS.items() if cause in row.causes)


def errors_by_cause(operation: Operation) -> Mapping[Cause, tuple[str, ...]]:
    """The errors of a served operation, by their causes. An operation that is not served is an address."""
    causes = [Cause.KEY, Cause.PROTOCOL, *_own_causes(operation), Cause.GATEWAY]
    return MappingProxyType({cause: _errors(cause, operation) for cause in causes})


def errors_of(operation: Operation) -> frozenset[str]:
    """All errors that an operation can give."""
    return frozenset(key for keys in errors_by_cause(operation).values() for key in keys)


def _own_causes(operation: Operation) -> tuple[Cause, ...]:
    match operation.action:
        case Action.ROUTE:
            form = Cause.FORM if operation.model_in is ModelIn.FORM else Cause.JSON
            return Cause.BODY, form, Cause.LIMITS, Cause.PLACEMENT, Cause.REFUSAL, Cause.FAILURE
        case Action.STICKY:
            return Cause.BODY, Cause.LIMITS, Cause.OWNER, Cause.REFUSAL, Cause.FAILURE
        case Action.LOCAL:
            return (Cause.MODELS,)
        case Action.METADATA:
            limits = (Cause.LIMITS,) if operation.role is Role.USER else ()
            return *limits, Cause.STORED, Cause.ENGINES, Cause.SERVICE
        case _:
            return (Cause.ADDRESS,)


def _errors(cause: Cause, operation: Operation) -> tuple[str, ...]:
    excluded = _NAMED_BY_ROWS.difference(operation.errors) if cause in _BY_ROW else ()
    return tuple(key for key in errors_with(cause) if key not in excluded and _is_possible(key, operation))


def _is_possible(key: str, operation: Operation) -> bool:
    match key:
        case "stream_options_without_stream":
            return operation.stream is Stream.DATA_DONE
        case "context_length_exceeded":
            return operation.action is Action.ROUTE
        case "previous_response_not_found":
            return operation.makes_response
        case "unknown_url":
            return operation.path.startswith("/v1/")
        case "unknown_url_outside":
            return not operation.path.startswith("/v1/")
        case "method_not_allowed":
            return False
        case "stream_over_http_1_0":
            return operation.stream is not Stream.NONE
    return True


# status -> the exception of openai-python, and whether SDKs try such an answer again by themselves
SDK_EXCEPTIONS: Final[Mapping[int, tuple[str, bool]]] = MappingProxyType({
    400: ("BadRequestError", False),
    401: ("AuthenticationError", False),
    403: ("PermissionDeniedError", False),
    404: ("NotFoundError", False),
    405: ("APIStatusError", False),
    408: ("APIStatusError", True),
    409: ("ConflictError", True),
    410: ("APIStatusError", False),
    413: ("APIStatusError", False),
    415: ("APIStatusError", False),
    416: ("APIStatusError", False),
    426: ("APIStatusError", False),
    429: ("RateLimitError", True),
    431: ("APIStatusError", False),
    500: ("InternalServerError", True),
    502: ("InternalServerError", True),
    503: ("InternalServerError", True),
    504: ("InternalServerError", True),
})  # fmt: skip
