"""What the gateway needs from the outside world, as protocols. Adapters fit them without knowing this file."""

from collections.abc import Callable, Mapping
from typing import Protocol

from aibrix_extproc.core.fleet.reduce import SourceChange


class EndpointSource(Protocol):
    """Something that knows endpoints: a file, flags, a Kubernetes API."""

    @property
    def name(self) -> str:
        """The name in every change it emits; FleetStore is told it beforehand."""
        ...

    async def run(self, emit: Callable[[SourceChange], None]) -> None:
        """Emit `Listed` as soon as everything was read, then what changes, until cancelled.

        A source that loses sight of the outside keeps what it said and tells its own status; it does not raise.
        """
        ...


class ClusterSource(EndpointSource, Protocol):
    """A source that hears of its endpoints from a cluster, and finds things there that it cannot use."""

    def age_seconds(self) -> float:
        """Since the cluster was last heard."""
        ...

    def remarks(self) -> Mapping[str, str]:
        """What cannot be used, and why, by object."""
        ...


class Publisher(Protocol):
    """Something outside that is to know every endpoint of the fleet."""

    @property
    def leads(self) -> bool:
        """Whether this replica is the one that tells."""
        ...

    @property
    def published(self) -> int:
        """How many endpoints are known there."""
        ...

    def age_seconds(self) -> float:
        """Since what is known there was last found to be right, or in another replica's hands."""
        ...

    def report(self) -> Mapping[str, object]:
        """For the health page."""
        ...

    def wake(self) -> None:
        """The fleet has changed."""
        ...

    async def run(self) -> None:
        """Publish until cancelled; what is published then stays."""
        ...
