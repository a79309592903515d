"""Which errors an operation can give, by what causes them: data for the reference, held against the code by a test."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.operations import Action, ModelIn, Operation, Stream
from aibrix_extproc.core.openai.contract.storage_errors import STORAGE_ROWS


@dataclass(frozen=True, slots=True)
class Cause:
    """Errors that come from the same place, in the order in which they are looked for."""

    title: str
    meaning: str
    errors: tuple[str, ...]


CAUSES: Final[Mapping[str, Cause]] = MappingProxyType({
    "key": Cause(
        "Key",
        "The key is looked at before anything else, so a bad one is a 401 everywhere, also for an unknown URL.",
        ("missing_api_key", "invalid_api_key", "expired_api_key", "keys_unknown", "permission_denied"),
    ),
    "address": Cause(
        "Address",
        "No operation has the method and path.",
        ("unknown_url", "unknown_url_outside", "method_not_allowed"),
    ),
    "protocol": Cause(
        "Protocol",
        "What is asked of HTTP itself.",
        ("upgrade_refused", "stream_over_http_1_0"),
    ),
    "health": Cause(
        "Health",
        "The health path, which no operation has.",
        ("fleet_unknown", "no_engine_ready"),
    ),
    "body": Cause(
        "Body",
        "Looked at before an engine is chosen.",
        ("unsupported_content_encoding", "request_too_large"),
    ),
    "json": Cause(
        "JSON",
        "A body that must be a JSON object with a model.",
        ("unsupported_content_type", "malformed_json", "missing_model", "empty_model", "invalid_type", "invalid_value",
         "engine_control", "media_url_refused", "gateway_busy"),
    ),
    "form": Cause(
        "Form",
        "A body that must be a form with a model.",
        ("unsupported_content_type", "audio_too_large", "malformed_multipart", "missing_model", "empty_model",
         "invalid_type", "invalid_value", "engine_control"),
    ),
    "placement": Cause(
        "Placement",
        "No engine may take the request.",
        (
            "fleet_unknown", "model_not_found", "model_wrong_task", "model_not_ready", "unknown_strategy",
            "unsupported_strategy", "invalid_external_filter", "no_matching_engine", "previous_response_not_found",
        ),
    ),
    "owner": Cause(
        "Owner",
        "The engine that has the object cannot be asked.",
        ("fleet_unknown", "not_found", "model_not_found", "model_not_ready"),
    ),
    "refusal": Cause(
        "Engine's refusal",
        "The engine looked at the request and refused it. Its words are kept where they speak about the request.",
        (
            "bad_request", "invalid_value", "invalid_type", "missing_required_parameter", "unknown_parameter",
            "unsupported_parameter", "unsupported_value", "invalid_image_url", "stream_options_without_stream",
            "context_length_exceeded", "previous_response_not_found", "not_found", "conflict", "rate_limited",
            "unknown_url", "unknown_url_outside",
        ),
    ),
    "failure": Cause(
        "Failure",
        "An engine, or the way to it, failed before the answer began. Other engines have been tried where that helps.",
        ("no_healthy_upstream", "upstream_reset", "overloaded", "timeout", "bad_gateway", "upstream_error"),
    ),
    "models": Cause(
        "Model",
        "Answered from what the gateway knows of the fleet.",
        ("fleet_unknown", "model_not_found_retrieve", "model_delete_refused"),
    ),
    "stored": Cause(
        "Stored object",
        "The metadata service refused the request.",
        (
            "unsupported_content_type", "malformed_multipart", "malformed_json", "request_too_large",
            "missing_required_parameter", "invalid_type", "invalid_value", *STORAGE_ROWS,
        ),
    ),
    "service": Cause(
        "Metadata service",
        "The service cannot be reached, or there is none.",
        ("unknown_url", "no_healthy_upstream", "upstream_reset", "overloaded", "timeout"),
    ),
    "gateway": Cause(
        "Gateway",
        "Envoy or the gateway itself, whatever was asked.",
        ("bad_request", "not_found", "headers_too_large", "rate_limited", "internal_error", "gateway_unavailable"),
    ),
})  # fmt: skip

_MODEL_ERRORS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "list_models": ("fleet_unknown",),
    "retrieve_model": ("fleet_unknown", "model_not_found_retrieve"),
    "delete_model": ("fleet_unknown", "model_not_found_retrieve", "model_delete_refused"),
})  # fmt: skip


_FILES: Final = frozenset({"create_file", "list_files", "retrieve_file", "delete_file", "file_content"})
_UPLOADS: Final = frozenset({"create_upload", "add_upload_part", "complete_upload", "cancel_upload"})
_BATCHES: Final = frozenset({"create_batch", "list_batches", "retrieve_batch", "cancel_batch"})
_OF_ALL_STORED: Final = _FILES | _UPLOADS | _BATCHES
# Which of them give an error, where not all do.
_STORAGE_ERRORS: Final[Mapping[str, frozenset[str]]] = MappingProxyType({
    "file_not_found": _FILES - {"create_file"},
    "upload_not_found": _UPLOADS - {"create_upload"},
    "batch_not_found": _BATCHES - {"create_batch"},
    "batch_not_cancellable": frozenset({"cancel_batch"}),
    "invalid_batch_file": frozenset({"create_file", "create_upload"}),
    "empty_file": frozenset({"create_file"}),
    "file_too_large": frozenset({"create_file", "add_upload_part"}),
    "download_refused": frozenset({"file_content"}),
    "range_not_satisfiable": frozenset({"file_content"}),
    "upload_not_pending": _UPLOADS - {"create_upload"},
    "upload_wrong_size": frozenset({"complete_upload"}),
    "upload_too_many_bytes": frozenset({"add_upload_part"}),
    "unknown_part": frozenset({"complete_upload"}),
    "part_twice": frozenset({"complete_upload"}),
    "wrong_md5": frozenset({"complete_upload"}),
    "storage_quota_exceeded": frozenset({"create_file", "complete_upload"}),
    "request_timeout": frozenset({"create_file", "add_upload_part", "create_batch"} | _UPLOADS),
    "insufficient_storage": frozenset({"create_file", "add_upload_part"}),
})  # fmt: skip


def errors_by_cause(operation: Operation) -> Mapping[str, tuple[str, ...]]:
    """The errors of a served operation, by the ids of their causes. An operation that is not served is an address."""
    causes = ["key", "protocol", *_own_causes(operation), "gateway"]
    return MappingProxyType({cause: _errors(cause, operation) for cause in causes})


def errors_of(operation: Operation) -> frozenset[str]:
    """All errors that an operation can give."""
    return frozenset(key for keys in errors_by_cause(operation).values() for key in keys)


def _own_causes(operation: Operation) -> tuple[str, ...]:
    match operation.action:
        case Action.ROUTE:
            form = "form" if operation.model_in is ModelIn.FORM else "json"
            return "body", form, "placement", "refusal", "failure"
        case Action.STICKY:
            return "body", "owner", "refusal", "failure"
        case Action.LOCAL:
            return ("models",)
        case Action.METADATA:
            return "stored", "service"
        case _:
            return ("address",)


def _errors(cause: str, operation: Operation) -> tuple[str, ...]:
    if cause == "models":
        return _MODEL_ERRORS[operation.id]
    return tuple(key for key in CAUSES[cause].errors if _is_possible(key, operation))


def _is_possible(key: str, operation: Operation) -> bool:
    if key in STORAGE_ROWS:
        return operation.id in _STORAGE_ERRORS.get(key, _OF_ALL_STORED)
    match key:
        case "stream_options_without_stream":
            return operation.stream is Stream.DATA_DONE
        case "context_length_exceeded":
            return operation.action is Action.ROUTE
        case "previous_response_not_found":
            return operation.id == "response"
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
