"""What is asked of the fleet and what it answers: plain values, no request types of any server."""

from collections.abc import Mapping
from typing import Final

import msgspec

from aibrix_extproc.core.fleet.model import Endpoint

RETRIES: Final = 3  # what the shipped Envoy configurations allow
ATTEMPTS: Final = RETRIES + 1


class RouteQuery(msgspec.Struct, frozen=True, gc=False):
    """The facts of one request that matter for picking an endpoint."""

    model: str
    prompt_head: bytes = b""  # the beginning of the prompt as it stands in the body, for prefix affinity
    cache_salt: str = ""
    body_bytes: int = 0
    session: str = ""  # what requests of one conversation have in common; for strategies that keep sessions


class RouteHints(msgspec.Struct, frozen=True, gc=False):
    """What a client says by AIBrix's headers of where its request shall go, as sent; None where it does not."""

    strategy: str | None = None
    external_filter: str | None = None
    profile: str | None = None
    session: str | None = None
    prompt_tokens: int | None = None  # estimated, and only for the profile `auto`
    max_tokens: int | None = None  # the same


class Placement(msgspec.Struct, frozen=True, gc=False):
    """The ranked endpoints for one request, best first, and who ranked them."""

    strategy: str
    model: str
    candidates: tuple[Endpoint, ...]

    @property
    def first(self) -> Endpoint:
        """The endpoint that Envoy tries first; its load is counted."""
        return self.candidates[0]

    def destination(self, entries: int = ATTEMPTS) -> str:
        """The list that Envoy walks, one entry per attempt: repeated when there are fewer candidates than attempts.

        Used up, Envoy would fall back to any endpoint of its cluster, also one of another model.
        """
        addresses = [endpoint.address for endpoint in self.candidates]
        rounds = -(-entries // len(addresses))
        return ",".join((addresses * rounds)[:entries])


Load = Mapping[str, int]  # in-flight exchanges by endpoint identity; absent means none
