"""Errors of operation runs."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.error_row import Cause, ErrorRow

ROWS: Final[Mapping[str, ErrorRow]] = MappingProxyType({
    "endpoint_not_found": ErrorRow(
        status=404, code="endpoint_not_found", param="target.endpoints",
        causes=(Cause.STORED,),
        message="No endpoint of the fleet has the identity, address or name '{given}'.",
        when="an operation at an endpoint that the fleet does not have",
    ),
    "no_endpoint_matches": ErrorRow(
        status=404, code="no_endpoint_matches", param="target",
        causes=(Cause.STORED,),
        message="No vLLM engine of the fleet matches the target.",
        when="an operation whose target matches no engine",
    ),
    "last_engine": ErrorRow(
        status=409, code="last_engine", param="keep_available", should_retry=False,
        causes=(Cause.STORED,),
        message=(
            "Fewer than {keep} engines would be left that can take requests for: {models}. An administrator may send "
            "'force'."
        ),
        when="an operation that would leave a model with fewer engines than `keep_available`",
    ),
    "too_many_runs": ErrorRow(
        status=409, code="too_many_runs", should_retry=False,
        causes=(Cause.STORED,),
        message="{limit} operations have not ended. Wait for some of them, or cancel some.",
        when="more operations than may wait",
    ),
    "idempotency_key_reused": ErrorRow(
        status=409, code="idempotency_key_reused", should_retry=False,
        causes=(Cause.STORED,),
        message="The Idempotency-Key was used for another request.",
        when="an idempotency key with another body than before",
    ),
    "run_not_found": ErrorRow(
        status=404, code="operation_not_found", param="id",
        causes=(Cause.STORED,),
        message="No operation has the id '{id}'.",
        when="an operation that does not exist, or is forgotten",
    ),
})  # fmt: skip
