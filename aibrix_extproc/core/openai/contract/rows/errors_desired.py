"""Errors of desired adapters and policies of models."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.error_row import Cause, ErrorRow

ROWS: Final[Mapping[str, ErrorRow]] = MappingProxyType({
    "unknown_field": ErrorRow(
        status=400, code="unknown_parameter",
        causes=(Cause.STORED,),
        message="Unknown parameter: '{param}'. Known are: {known}.",
        when="a field that a record of an adapter or a policy does not have",
    ),
    "adapter_not_found": ErrorRow(
        status=404, code="adapter_not_found", param="adapter",
        causes=(Cause.STORED,),
        message="There is no desired adapter with the name '{adapter}'.",
        when="no record of an adapter has the name, or it is not the caller's to operate",
    ),
    "adapter_exists": ErrorRow(
        status=409, code="adapter_exists", param="path", should_retry=False,
        causes=(Cause.STORED,),
        message=(
            "The adapter '{adapter}' is desired from the path '{path}'. To load another one under its name, send "
            "\"replace\": true."
        ),
        when="a record of the same name has another path or base model, and the request does not say `replace`",
    ),
    "adapter_name_taken": ErrorRow(
        status=409, code="adapter_name_taken", param="adapter", should_retry=False,
        causes=(Cause.STORED,),
        message="'{adapter}' is the name of a model that engines serve. Choose another name for the adapter.",
        when="an adapter with the name of a base model",
    ),
    "adapter_declared_elsewhere": ErrorRow(
        status=409, code="adapter_declared_elsewhere", param="adapter", should_retry=False,
        causes=(Cause.STORED,),
        message="The adapter '{adapter}' is declared by {source}. Change it there.",
        when="changing the record of an adapter that a ModelAdapter of Kubernetes declares",
    ),
    "policy_not_found": ErrorRow(
        status=404, code="policy_not_found", param="model",
        causes=(Cause.STORED,),
        message="The model '{model}' has no policy.",
        when="no policy is stored for the model, or it is not the caller's to operate",
    ),
})  # fmt: skip
