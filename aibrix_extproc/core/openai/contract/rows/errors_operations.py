"""Errors of operations over engines."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.error_row import SERVER_ERROR, Cause, ErrorRow

ROWS: Final[Mapping[str, ErrorRow]] = MappingProxyType({
    "unknown_endpoint": ErrorRow(
        status=400, code="unknown_endpoint", param="x-target-endpoints",
        causes=(Cause.ENGINES,),
        message="The fleet has no endpoint '{given}'. Name endpoints as HOST:PORT, with commas between them.",
        when="an engine operation at an address that no engine of the fleet has",
    ),
    "adapter_conflict": ErrorRow(
        status=409, code="adapter_conflict", param="lora_path", should_retry=False,
        causes=(Cause.ENGINES,),
        message=(
            "The adapter '{adapter}' is loaded from another path on {endpoint}. Unload it, or send load_inplace."
        ),
        when="loading an adapter whose name another adapter has",
    ),
    "no_fleet": ErrorRow(
        status=503, type=SERVER_ERROR, code="no_fleet", retry_after_seconds=60, should_retry=False,
        causes=(Cause.ENGINES,),
        message=(
            "The metadata service knows no engines. Give it the gateway's sources: a fleet file, endpoints, or "
            "Kubernetes."
        ),
        when="an engine operation at a metadata service without a source of endpoints",
    ),
    "no_engines": ErrorRow(
        status=503, type=SERVER_ERROR, code="no_engines", retry_after_seconds=5, should_retry=False,
        causes=(Cause.ENGINES,),
        message="There is no engine that {path} could be sent to.",
        when="an engine operation without any vLLM engine that it concerns",
    ),
    "engines_disagree": ErrorRow(
        status=409, code="engines_disagree", should_retry=False,
        causes=(Cause.ENGINES,),
        message=(
            "The engines answered {path} differently; 'endpoints' has each one's answer. Name one by the header "
            "x-target-endpoints."
        ),
        when="every engine succeeded, but they gave different answers",
    ),
    "partial_failure": ErrorRow(
        status=502, type=SERVER_ERROR, code="partial_failure", should_retry=False,
        causes=(Cause.ENGINES,),
        message="{path} failed on {failed} of {all} engines; 'endpoints' has the result of each.",
        when=(
            "an engine operation that did not succeed everywhere, or failed in different ways; it may be sent again: "
            "engines that have the adapter, or do not have it any more, are left out then"
        ),
    ),
})  # fmt: skip
