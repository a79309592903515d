"""The interface of a part. A process is a list of parts, a server that needs them, and an admin server."""

from collections.abc import Callable, Iterable
from typing import Protocol


class Meters(Protocol):
    """The registry of a part's metrics. Names, labels and help are in the table of the process's metrics."""

    def gauge(self, name: str, value: Callable[[], float], **labels: str) -> None:
        """Read `value` at each scrape."""

    def gauges(self, name: str, values: Callable[[], Iterable[tuple[str | tuple[str, ...], float]]]) -> None:
        """Read all series of a gauge at each scrape: the labels' values (a text if there is one), and the number."""

    def counter(self, name: str) -> Callable[[], None]:
        """A function that counts one, for a counter without labels."""
        ...


class Part(Protocol):
    """A task of a process that runs until it is cancelled. Members have defaults for parts that do not need them."""

    @property
    def name(self) -> str:
        """The key of its report, and the name of its task."""
        ...

    @property
    def ends_before_drain(self) -> bool:
        """Whether another replica shall take over what it does before the drain, which may last."""
        return False

    @property
    def known(self) -> bool:
        """Whether the process may serve as far as this part is concerned; it is ready when all parts are known."""
        return True

    @property
    def degraded(self) -> bool:
        """Whether something is broken, and the last good state of it stays in use."""
        return False

    async def wait_known(self) -> None:
        """Return once `known` is true for the first time."""
        return

    async def run(self) -> None:
        """Run until cancelled, or return at once if there is nothing to do."""
        return

    def report(self) -> object:
        """Its entry on the readiness page, fit for JSON; None for no entry."""
        return None

    def register(self, metrics: Meters) -> None:
        """Register its metrics, once, before it runs."""
        return
