"""The part that reads gauges: what starts it, and what the predictor and the poller hear of readings."""

from dataclasses import replace

import pytest

from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.parts.gauges import Gauges
from aibrix_extproc.core.fleet.gauge_book import GaugeBook
from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint, ServedModel
from aibrix_extproc.core.fleet.reduce import Gone, Listed
from tests.build import an_endpoint


class Rig:
    """The part on a store with one engine."""

    def __init__(self) -> None:
        self.sizes: list[tuple[str, float, str]] = []
        self.polled: list[str] = []
        self.book = GaugeBook()
        self.store = FleetStore(["test"])
        self.endpoint = an_endpoint(1)
        self.store.apply(Listed("test", (self.endpoint,)))
        tell = self.sizes.append
        self.told: list[tuple[str, EngineGauges]] = []
        self.part = Gauges(
            self.store, LoadBook(), self.book, self.polled.append, lambda *said: tell(said),
            lambda *said: self.told.append(said),
        )  # fmt: skip

    def read(self, values: dict[str, object], endpoint: Endpoint | None = None) -> None:
        self.part.read(endpoint or self.endpoint, EngineGauges(at=1.0, **values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"cache_tokens": 4096, "keeps_prefixes": True}, [("engine-1", 4096.0, "chat-m")]),
        ({"cache_tokens": 4096}, [("engine-1", 4096.0, "chat-m")]),
        ({"cache_tokens": 4096, "keeps_prefixes": False}, [("engine-1", 0.0, "chat-m")]),
        ({"running": 3.0}, []),
    ],
    ids=["size", "size-alone", "no-prefix-cache", "unknown"],
)
def test_predictor_hears_how_large_the_prefix_cache_is(
    values: dict[str, object], told: list[tuple[str, float, str]]
) -> None:
    rig = Rig()
    rig.read(values)

    assert rig.sizes == told


def test_of_an_engine_with_adapters_the_base_model_counts() -> None:
    rig = Rig()
    models = ServedModel("adapter", parent="base"), ServedModel("base")
    rig.read({"cache_tokens": 16}, replace(rig.endpoint, models=models))

    assert rig.sizes == [("engine-1", 16.0, "base")]


def test_an_engine_that_sleeps_by_its_page_is_polled() -> None:
    rig = Rig()
    rig.read({"asleep": False})
    assert rig.polled == []
    rig.read({"asleep": True})
    assert rig.polled == ["engine-1"]


def test_a_page_that_cannot_be_read_is_reported_until_it_can_or_the_engine_is_gone() -> None:
    rig = Rig()
    assert rig.part.report() is None

    rig.part.start()
    rig.part.failed(rig.endpoint, "/metrics answers 404")
    assert rig.part.report() == {"ok": False, "failing": 1, "reasons": {"engine-1": "/metrics answers 404"}}
    rig.read({"running": 1.0})
    assert rig.part.report() == {"ok": True, "failing": 0, "reasons": {}}

    rig.part.failed(rig.endpoint, "no")
    rig.store.apply(Gone("test", "engine-1"))
    assert rig.part.report() == {"ok": True, "failing": 0, "reasons": {}}
    assert rig.book.of("engine-1") is None


def test_predictor_hears_what_an_engine_says() -> None:
    rig = Rig()
    rig.read({"waiting": 3.0})
    rig.read({"first_tokens": 7.0})
    assert [(name, one.waiting, one.first_tokens) for name, one in rig.told] == [
        (rig.endpoint.identity, 3.0, None),
        (rig.endpoint.identity, None, 7.0),
    ]
