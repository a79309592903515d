"""Errors of a request for which there is no engine, and of the models that are listed."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.error_row import SERVER_ERROR, Cause, ErrorRow

ROWS: Final[Mapping[str, ErrorRow]] = MappingProxyType({
    # in the order in which a request meets them
    "fleet_unknown": ErrorRow(
        status=503, type=SERVER_ERROR, code="fleet_unknown", retry_after_seconds=2,
        causes=(Cause.HEALTH, Cause.PLACEMENT, Cause.OWNER, Cause.MODELS),
        message="The gateway does not know its engines yet. Please retry shortly.",
        when="start-up, before the first fleet was read",
    ),
    "no_engine_ready": ErrorRow(
        status=503, type=SERVER_ERROR, code="no_engine_ready", retry_after_seconds=5,
        causes=(Cause.HEALTH,),
        message="The gateway is up, but none of its engines is ready.",
        when="the health path, while no engine of any model is ready",
    ),
    "model_not_found": ErrorRow(
        status=404, code="model_not_found",
        causes=(Cause.PLACEMENT, Cause.OWNER),
        message="The model `{model}` does not exist or you do not have access to it.",
        when="no endpoint of the fleet serves the model",
    ),
    "model_not_found_retrieve": ErrorRow(
        status=404, code="model_not_found", param="model",
        causes=(Cause.MODELS,),
        message="The model '{model}' does not exist",
        when="GET /v1/models/{id} of an unknown model",
    ),
    "model_delete_refused": ErrorRow(
        status=403, code="permission_denied",
        causes=(Cause.MODELS,),
        message="You have insufficient permissions to delete the model '{model}'.",
        when="DELETE /v1/models/{id}",
    ),
    "interface_not_found": ErrorRow(
        status=404, code="interface_not_found", param="id",
        causes=(Cause.MODELS,),
        message="No interface found with id '{interface}'.",
        when="GET /v1/interfaces/{id} of an unknown operation, or of one that the key may not use",
    ),
    "model_wrong_task": ErrorRow(
        status=400, code="unsupported_endpoint", param="model",
        causes=(Cause.PLACEMENT,),
        message="The model '{model}' does not support this endpoint.",
        when="the engine that serves the model has no such route",
    ),
    "model_not_ready": ErrorRow(
        status=503, type=SERVER_ERROR, code="model_not_ready", retry_after_seconds=5,
        causes=(Cause.PLACEMENT, Cause.OWNER),
        message="The model `{model}` has no engine that is ready at the moment. Please retry shortly.",
        when="the model is known, none of its endpoints is ready",
    ),
    "engine_overloaded": ErrorRow(
        status=503, type=SERVER_ERROR, code="engine_overloaded", retry_after_seconds=5,
        causes=(Cause.PLACEMENT,),
        message="The engines of the model `{model}` are at their limit. Please retry later.",
        when="the queue in front of the model's engines is full, or the request has waited there as long as it may",
    ),
    "unknown_strategy": ErrorRow(
        status=400, code="invalid_value", param="routing-strategy",
        causes=(Cause.PLACEMENT,),
        message="Invalid value for header 'routing-strategy': '{given}'. Supported values are: {supported}.",
        when="the header routing-strategy names no strategy",
    ),
    "unsupported_strategy": ErrorRow(
        status=400, code="unsupported_value", param="routing-strategy",
        causes=(Cause.PLACEMENT,),
        message=(
            "Unsupported value for header 'routing-strategy': '{given}'. {reason} Supported values are: {supported}."
        ),
        when="the header routing-strategy names what only AIBrix's gateway has, or a combination that cannot be read",
    ),
    "invalid_external_filter": ErrorRow(
        status=400, code="invalid_value", param="external-filter",
        causes=(Cause.PLACEMENT,),
        message="Invalid value for header 'external-filter': {reason}. It is a Kubernetes label selector.",
        when="the header external-filter cannot be read",
    ),
    "no_matching_engine": ErrorRow(
        status=503, type=SERVER_ERROR, code="no_matching_engine", param="external-filter",
        retry_after_seconds=5, should_retry=False,
        causes=(Cause.PLACEMENT,),
        message="No engine of the model `{model}` matches the header 'external-filter'.",
        when="the header external-filter leaves none of the model's endpoints, ready or not",
    ),
    "previous_response_not_found": ErrorRow(
        status=400, code="previous_response_not_found", param="previous_response_id",
        causes=(Cause.PLACEMENT, Cause.REFUSAL),
        message="Previous response with id '{response_id}' not found.",
        when="previous_response_id names no response of this caller, or its engine has lost it; send the history again",
    ),
    "not_found": ErrorRow(
        status=404,
        causes=(Cause.OWNER, Cause.REFUSAL, Cause.GATEWAY),
        message="{message}",
        when="the engine does not know the object that the path names",
    ),
})  # fmt: skip
