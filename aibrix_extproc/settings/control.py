"""How a gateway reaches the metadata service."""

from pathlib import Path

from pydantic import Field

from aibrix_extproc.settings.fields import Group, Name, Seconds, flag


class ControlSettings(Group):
    """The metadata service as gateways use it themselves, past Envoy."""

    url: Name | None = Field(
        None,
        description="URL of the metadata service, such as http://127.0.0.1:9010; none means that this gateway works"
        " by its files alone and sends no usage records. Both need the same note keys",
        json_schema_extra=flag("--control-url"),
    )
    cache_file: Path | None = Field(
        None,
        description="file in which a gateway keeps the last control state (cordons, callers, hashes of keys, limits),"
        " for a start while the metadata service is away; each process needs one of its own",
        json_schema_extra=flag("--control-cache-file"),
    )
    start_seconds: Seconds = Field(
        10.0,
        description="how long a gateway that has no control state waits for it before it serves without; keys of the"
        " API are refused then",
    )
    wake_seconds: Seconds = Field(
        60.0,
        description="how long a request may wait for a sleeping model that it has woken; at most four fifths of the"
        " time that Envoy waits (server.max_message_timeout_seconds). Then it is a 503 with a retry-after",
    )
    max_waiting: int = Field(
        1000, ge=0, description="requests that may wait for sleeping models at once, in each process; others are a 503"
    )
