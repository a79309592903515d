"""Requests that wait in the gateway: in front of saturated engines, and for models that come."""

from pydantic import Field

from aibrix_extproc.settings.fields import MIB, Group, Name, Seconds, flag


class QueueSettings(Group):
    """The queue in front of a model's engines."""

    enabled: bool = Field(
        False,
        description="hold requests back while all engines of their model are full, and let them go in fair order;"
        " without it they queue in the engines, first come, first served",
        json_schema_extra=flag("--queue"),
    )
    engine_requests: int | None = Field(
        None, ge=1, le=100_000,
        description="requests that an engine shall have at once, about its --max-num-seqs; none: as its pod's"
        " command line says, else learned for each engine from its metrics, while requests wait in it",
    )  # fmt: skip
    max_wait_seconds: Seconds = Field(
        60.0,
        description="how long a request may wait; four fifths of what its client allows if that is less, and at most"
        " four fifths of the time that Envoy waits (server.max_message_timeout_seconds). Then it is a 503 with a"
        " retry-after",
    )
    max_waiting: int = Field(1000, ge=0, le=1_000_000, description="requests that wait at once, in each process")
    max_waiting_bytes: int = Field(256 * MIB, ge=0, description="bytes of their bodies")
    engine_priorities: bool = Field(
        False,
        description="tell engines the class of each request as x-vllm-priority: interactive -1, default 0, batch 1."
        " vLLM heeds it with --scheduling-policy priority: it runs those with the lowest number first, and may push"
        " running ones with a higher number out of a full cache",
        json_schema_extra=flag("--engine-priorities"),
    )
    hold_models: tuple[Name, ...] = Field(
        (), description="models that may have no engine at times: requests for them wait until there is one"
    )
