"""Limits of callers, and the Redis in which gateways share their counters."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from aibrix_extproc.settings.fields import Group, flag


class WhenAway(StrEnum):
    """What happens to limited callers while Redis cannot be asked."""

    OPEN = "open"
    CLOSED = "closed"


class RateLimitSettings(Group):
    """Limits of callers, keys and models. Who has none is not counted."""

    file: Path | None = Field(
        None, description="YAML file with limits and prices, watched and reloaded (docs/limits.md); the key file may"
        " have limits of its callers too",
        json_schema_extra=flag("--limits"),
    )  # fmt: skip
    when_away: WhenAway = Field(
        WhenAway.OPEN,
        description="while Redis cannot be asked: open (each gateway admits its share of a limit) or closed (503 for"
        " limited callers)",
    )
    replicas: int = Field(
        1, ge=1, le=10_000,
        description="gateway processes among which a limit is shared out where there is no Redis, workers included;"
        " with Redis the least number that a share is computed for",
    )  # fmt: skip
    cached_token_weight: float = Field(
        1.0, ge=0, le=1, description="what a cached input token counts for in limits of tokens; prices have their own"
    )


class RedisSettings(Group):
    """A Redis or Valkey (5 or newer) that all gateways share. It needs no disk."""

    url: str = Field(
        "", max_length=1024,
        description="redis://HOST:PORT/NUMBER, rediss:// with TLS, or unix:///PATH; empty: counters in this process",
        json_schema_extra=flag("--redis"),
    )  # fmt: skip
    password_file: Path | None = Field(None, description="file with the password, in place of one in the URL")
    ca_file: Path | None = Field(None, description="PEM file of the authorities of its certificate, with rediss://")
    timeout_ms: int = Field(
        50, ge=1, le=1000, description="longest wait for an answer; three late ones in a row count as Redis being away"
    )
    prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = Field(
        "aibrix", description="of the names of all keys, as a hash tag: a cluster keeps them in one slot"
    )

    @model_validator(mode="after")
    def _is_a_url(self) -> "RedisSettings":
        if self.url and not self.url.startswith(("redis://", "rediss://", "unix:///")):
            raise ValueError("url must begin with redis://, rediss:// (TLS) or unix:///")
        return self
