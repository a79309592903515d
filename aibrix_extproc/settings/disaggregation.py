"""Prefill/decode disaggregation, for models that have engines with the role prefill."""

from enum import StrEnum

from pydantic import Field

from aibrix_extproc.settings.fields import Group, Seconds, flag


class PrefillBy(StrEnum):
    """Who sends the request to the prefill engine."""

    GATEWAY = "gateway"
    SIDECAR = "sidecar"


class DisaggregationSettings(Group):
    """How prompts are computed by prefill engines."""

    prefill_by: PrefillBy = Field(
        PrefillBy.GATEWAY,
        description="gateway: the gateway sends the prompt to a prefill engine, then the request to a decode engine;"
        " sidecar: llm-d's routing sidecar beside the decode engine does, told by the header x-prefiller-host-port",
        json_schema_extra=flag("--prefill-by"),
    )
    local_tokens: int = Field(
        256, ge=0, le=10_000_000,
        description="a decode engine whose cache lacks at most so many tokens of a prompt computes them itself",
    )  # fmt: skip
    prefill_seconds: Seconds = Field(
        30.0,
        description="how long prefill engines may take for a prompt, all attempts together, and at most four fifths of"
        " the time that Envoy waits (server.max_message_timeout_seconds); then the decode engine computes it",
    )
    max_prefills: int = Field(
        1024, ge=1, le=100_000, description="prefills at once, in each process; beyond them decode engines compute"
    )
