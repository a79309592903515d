"""The metrics of one process, by the rows of a table. Parts register their gauges and counters here by name."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aibrix_extproc.adapters.telemetry.tallies import Distribution, Tally

Rows = Mapping[str, tuple[str, tuple[str, ...], str]]
"""By name: kind, labels, help."""


Row = tuple[str | tuple[str, ...], float]


class MetricRegistry:
    """A registry of its own for one process. All counters of the table are there from the start."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.registry = CollectorRegistry()
        self._counters = {
            name: Tally(name, text, labels) for name, (kind, labels, text) in rows.items() if kind == "counter"
        }
        for counter in self._counters.values():
            self.registry.register(counter)

    def distribution(self, name: str, bounds: tuple[float, ...]) -> Distribution:
        """The histogram of a row."""
        _, labels, text = self._rows[name]
        made = Distribution(name, text, labels, bounds)
        self.registry.register(made)
        return made

    def counter(self, name: str) -> Callable[[], None]:
        """A function that counts one, for a counter without labels."""
        return partial(self._counters[name].add, ())

    def gauge(self, name: str, value: Callable[[], float], **labels: str) -> None:
        """Read `value` at each scrape."""
        _, names, text = self._rows[name]
        gauge = Gauge(name, text, names, registry=self.registry)
        (gauge.labels(**labels) if labels else gauge).set_function(value)

    def gauges(self, name: str, values: Callable[[], Iterable[Row]]) -> None:
        """Read all series of a gauge at each scrape: the labels' values (a text if there is one), and the number."""
        _, labels, text = self._rows[name]
        self.registry.register(_Family(name, text, labels, values))

    def exposition(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self.registry)


class _Family(Collector):
    def __init__(self, name: str, text: str, labels: tuple[str, ...], values: Callable[[], Iterable[Row]]) -> None:
        self._name, self._text, self._labels, self._values = name, text, labels, values

    def collect(self) -> Iterator[Metric]:
        """The series of the moment."""
        family = GaugeMetricFamily(self._name, self._text, labels=self._labels)
        for value, number in self._values():
            family.add_metric((value,) if isinstance(value, str) else value, number)
        yield family
