"""Defines a drained endpoint: every live gateway has applied the cordon, and has no exchange with it."""

from collections.abc import Mapping, Sequence

import msgspec


class GatewayReport(msgspec.Struct, frozen=True):
    """The last report of one gateway process."""

    replica: str
    applied_version: int  # of control state
    in_flight: Mapping[str, int]  # exchanges by identity, of cordoned endpoints
    age_seconds: float  # since the report came, by the database's clock
    # Of endpoints of models with a policy: exchanges in flight, and seconds since the last one ended.
    usage: Mapping[str, tuple[int, float]] = {}


class Drain(msgspec.Struct, frozen=True):
    """The progress of an endpoint's drain."""

    gateways: int  # live ones
    behind: int  # of these, those that have not applied the cordon
    in_flight: int  # exchanges at the endpoint, of those that have

    @property
    def complete(self) -> bool:
        """Whether no gateway has an exchange with the endpoint, or can begin one. Unknown without any gateway."""
        return self.gateways > 0 and not self.behind and not self.in_flight

    @property
    def described(self) -> str:
        """For the history."""
        if not self.gateways:
            return "no gateway reports"
        if self.behind:
            return f"{self.behind} of {self.gateways} gateways have not applied the cordon"
        return f"{self.in_flight} exchanges in flight at {self.gateways} gateways"


def drain_of(reports: Sequence[GatewayReport], identity: str, version: int, live_seconds: float) -> Drain:
    """The drain of an endpoint whose cordon has this version.

    A gateway that has not reported for `live_seconds` counts no more: a dead one begins no exchange. Those that it had
    begun go on in Envoy without it, and nobody can count them.
    """
    live = [one for one in reports if one.age_seconds <= live_seconds]
    behind = sum(one.applied_version < version for one in live)
    in_flight = sum(one.in_flight.get(identity, 0) for one in live if one.applied_version >= version)
    return Drain(len(live), behind, in_flight)
