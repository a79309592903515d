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
})  # fmt: skip
