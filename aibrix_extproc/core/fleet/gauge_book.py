"""The latest reading of each engine and what it did lately. One owner writes (the scraper), scorers read."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from aibrix_extproc.core.fleet.engine_rates import EngineRates
from aibrix_extproc.core.fleet.gauges import EngineGauges, freshness


class GaugeBook:
    """Readings and rates by the identity of the endpoint."""

    def __init__(self) -> None:
        self._readings: dict[str, EngineGauges] = {}
        self.view: Mapping[str, EngineGauges] = MappingProxyType(self._readings)
        self._rates: dict[str, EngineRates] = {}

    def take(self, identity: str, reading: EngineGauges) -> None:
        """Keep a reading in place of the one before."""
        self._readings[identity] = reading
        rates = self._rates.get(identity)
        if rates is None or not rates.follow(reading):
            self._rates[identity] = EngineRates(reading)

    def forget(self, identities: Iterable[str]) -> None:
        """Drop what is known of endpoints that are gone."""
        for identity in identities:
            self._readings.pop(identity, None)
            self._rates.pop(identity, None)

    def of(self, identity: str) -> EngineGauges | None:
        """The latest reading of an endpoint, however old it is."""
        return self._readings.get(identity)

    def rates(self, identity: str) -> EngineRates | None:
        """The rates of an engine lately; None if it was never read."""
        return self._rates.get(identity)

    def requests(self, identity: str, own: int, now: float) -> float:
        """The number of requests at an endpoint: our `own` now, and those of others by the latest reading."""
        reading = self._readings.get(identity)
        return own if reading is None else own + reading.others * freshness(now - reading.at)
